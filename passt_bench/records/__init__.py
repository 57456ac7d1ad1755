"""Records of runs, cost sessions, evaluations, searches and studies, and the store that holds them.

Layout under an output folder, all JSON, each file written once and atomically::

    records/KEY/record.json      a quality cell (`run.RunRecord`), a cost session
                                 (`session.SessionRecord`) or an evaluation
                                 (`evaluation.EvaluationRecord`)
    records/KEY/attempt-N.json   an earlier attempt at a quality cell, kept when it was retried
    records/KEY/samples.json.gz  raw samples of a session, variant → phase → [round][step] seconds
    studies/NAME.json            a study's expansion (`run.StudyRecord`): variants and their keys
    search/NAME.json             the trials of a search (`search.SearchRecord`)

A record knows nothing of studies and holds no absolute path, host or user name.
"""
