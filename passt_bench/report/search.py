"""Describes a search: its result in words, its configurations in a table, and facts."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.report.figures.search import PATCHOUT
from passt_bench.report.provenance import Fact, engine_text
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import counted, fixed, interval, listed, quoted, significant
from passt_bench.report.view import StudyView
from passt_bench.spec.recipe import ModelSpec, TrainingSpec

_BUDGETS = {"flops": "FLOPs", "tokens": "tokens", "steps": "steps", "epochs": "epochs"}


def search_headline(search: SearchRecord, confirming: StudyView | None = None) -> str:
    """The number of configurations tried and the best one, in two sentences.

    ``confirming`` is the study of the best ones, with seeds that the search did not use.
    """
    count = len(search.settings)
    tried = (
        f"{counted(count, 'configuration')} {'was' if count == 1 else 'were'} tried in "
        f"{counted(len(search.trials), 'trial')}"
    )
    if not search.best:
        return f"{tried}; none of them succeeded."
    best, variants = search.best[0], confirming.variants if confirming else ()
    value = f"{search.metric} {significant(best.value or 0.0)} on the validation split"
    paid = f"For the {_BUDGETS[search.budget]} of {quoted(search.baseline)}"
    if best.patchout.kind == "none" and best.keys == search.trials[0].keys:
        return f"{tried}. {paid} none of them is better than dropping nothing ({value})."
    name = next(iter(search.confirmed), "")  # the best first
    tested = next((v for v in variants if v.name == name and v.value.known), None)
    if tested is None and len(search.best) > 1:
        value += f", the best of {len(search.best)} and so too high; unconfirmed"
    elif tested is not None:
        value += f"; {interval(tested.value)} on the test split with fresh seeds, "
        value += f"verdict against {quoted(search.baseline)}: {tested.verdict}"
    return f"{tried}. {paid} the best is {describe(best)} ({value})."


def describe(trial: TrialRecord) -> str:
    """A configuration in words: ``structured, 2 rows and 3 columns of patches dropped``."""
    own = {name: v for name, v in trial.params.items() if name not in PATCHOUT}
    others = [
        f", {name.rpartition('.')[2].replace('_', ' ')} "
        + (significant(value) if isinstance(value, float) else str(value))
        for name, value in own.items()
    ]
    if trial.patchout.kind == "none":
        return "".join(("nothing dropped", *others))
    counts = (
        (trial.patchout.patches, "single patch", "single patches"),
        (trial.patchout.frequency, "frequency row", "frequency rows"),
        (trial.patchout.time, "time column", "time columns"),
    )
    parts = [f"{n} {one if n == 1 else many}" for n, one, many in counts if n is not None]
    return "".join((f"{trial.patchout.kind}, {listed(parts)} dropped", *others))


def settings(search: SearchRecord) -> Table:
    """Every configuration, the best first, those that failed last."""
    trials = [*search.best, *(trial for trial in search.settings if trial.value is None)]
    columns = (
        Column("setting", "configuration", get=describe),
        Column("rate", "suggested rate", partial(fixed, places=3), get=lambda t: t.rate),
        Column("tokens", "tokens", str, get=lambda t: t.tokens),
        # Its name in CSV files is older than its title.
        Column(f"inner_{search.metric}", f"{search.metric}, validation split", significant,
               get=lambda t: t.status if t.value is None else t.value),
        *(
            Column(name, f"{name} / baseline", partial(fixed, places=3),
                   get=partial(_cost, name))
            for name in search.objectives
        ),
        Column("suggested", "times suggested", str,
               get=lambda t: sum(other.keys == t.keys for other in search.trials)),
        Column("seconds", "trained for", partial(fixed, places=1), "s",
               get=lambda t: t.seconds or None),
        Column("key", "record", get=lambda t: t.keys[0]),
    )  # fmt: skip
    caption = f"{search.name}: configurations by {search.metric} on the validation split."
    return table("settings", caption, columns, trials)


def _cost(objective: str, trial: TrialRecord) -> float | None:
    return trial.costs.get(objective)


def search_facts(search: SearchRecord) -> list[Fact]:
    """(name, value) pairs about how a search was made."""
    recipe = search.recipe
    repeated = len(search.trials) - len(search.settings)
    pruned = sum(trial.status == "pruned" for trial in search.trials)
    failures = sum(trial.status not in ("ok", "pruned") for trial in search.settings)
    held = "" if search.fold is None else f" of all folds but {search.fold}"
    rates, space = search.rates, search.space
    if not space:  # of the first records
        steps = f"{rates[0]:g} to {rates[-1]:g} in steps of {rates[1] - rates[0]:g}"
        space = {"kind": listed(search.kinds), "rate": steps}
    return [
        ("Data", f"{search.fingerprint.dataset} ({search.fingerprint.digest})"),
        (
            "Objective",
            f"{search.metric} on {100 * recipe.training.validation_share:.0f} % of the training "
            f"clips{held}, held out for the search; the test split was not used",
        ),
        (
            "Search space",
            "; ".join(f"{name}: {values}" for name, values in space.items()),
        ),
        (
            "Budget of a trial",
            f"the {_BUDGETS[search.budget]} of {quoted(search.baseline)}, on the other clips",
        ),
        ("Further objectives", listed(search.objectives) or "none"),
        ("Pruning", search.pruning),
        ("Seeds", listed(str(seed) for seed in search.seeds)),
        (
            "Trials",
            f"{len(search.trials)}, of which {repeated} repeated a configuration and were not "
            f"trained, {pruned} were pruned, and {failures} failed",
        ),
        ("Sampler", "tree-structured Parzen estimator (Optuna), the first trial drops nothing"),
        ("Training time", f"{sum(t.seconds for t in search.trials) / 60:.1f} min in all"),
        ("Engine", engine_text(recipe.engine)),
        ("Recipe: model", _fields(recipe.model)),
        ("Recipe: training", _fields(recipe.training)),
    ]


def _fields(part: ModelSpec | TrainingSpec) -> str:
    return ", ".join(f"{name} {v}" for name, v in asdict(part).items() if v is not None)
