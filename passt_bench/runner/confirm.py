"""Confirming what a search found: its best settings as a study of their own, on the test fold."""

from __future__ import annotations

from collections.abc import Sequence

from passt_bench.records.search import TrialRecord
from passt_bench.runner.plan import Context, Datasets, StudyPlan, plan_study
from passt_bench.runner.space import baseline_of, setting_name
from passt_bench.spec.study import Study, Variant


def plan_confirmation(
    name: str,
    plan: StudyPlan,
    best: Sequence[TrialRecord],
    fold: int | None,
    context: Context,
    datasets: Datasets,
    command: str,
) -> StudyPlan:
    """The best settings against the baseline, trained on all training clips.

    The seeds are the study's own: none of them was used by the search, and a baseline that the
    study has on record is not trained again. Of a folded data set only the fold that the search
    held out is tested, for the search saw the others.

    Args:
        name: of the study that it makes.
        plan: of the study that was searched over.
        best: settings, the best first.
        fold: that the search held out.
        context: where things lie.
        datasets: opened data sets.
        command: what was typed.
    """
    source = plan.study
    named = {setting_name(trial.kind, trial.rate): trial.patchout for trial in best}
    study = Study(
        name=name,
        question=f"Do the best settings of the search beat {source.baseline!r}?",
        base=baseline_of(plan).recipe,
        variants=(
            Variant(source.baseline),
            *(Variant(setting, {"patchout": patchout}) for setting, patchout in named.items()),
        ),
        baseline=source.baseline,
        metric=source.metric,
        seeds=source.seeds,
        folds=None if fold is None else (fold,),
        margin=source.margin,
    )
    notebook = (
        "The best settings of a search over kind and rate of patchout. The search chose by a "
        "split cut from the training clips; here they are trained anew on all training clips, "
        f"with seeds that it did not use ({', '.join(map(str, source.seeds))}), and tested."
    )
    return plan_study(study, context, notebook=notebook, command=command, datasets=datasets)
