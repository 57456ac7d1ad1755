"""What differences come out of chance alone?

Question: arms that differ only in the order of batches and in augmentation have the same true mAP;
how far apart are their results?

Command: nox -s ablate -- noise_floor
Expected time: about 5 minutes on two CPU cores (built-in synthetic scenes).

Expected outcome: no verdict of better or worse; the spread of the differences is the noise floor
that a real effect has to exceed (`passt_bench.analysis.compare.noise_floor` computes it).
"""

from __future__ import annotations

from passt_bench.spec import Study, Variant

from .recipes import synthetic

STUDY = Study(
    name="noise_floor",
    question="What differences come out of chance alone?",
    base=synthetic(),
    baseline="salt 0",
    variants=tuple(Variant(f"salt {salt}", {"salt": salt}) for salt in range(6)),
    seeds=(0, 1, 2, 3, 4),
    minutes=5,
)
