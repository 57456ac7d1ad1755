"""From what was typed to a planned study."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from passt_bench.data import find_folders
from passt_bench.errors import InputError, choose_from
from passt_bench.names import plain_name
from passt_bench.registry import DATASETS
from passt_bench.runner.plan import Context, Datasets, StudyPlan, plan_study
from passt_bench.runner.studies import load_study
from passt_bench.spec.override import override, parse_assignments
from passt_bench.spec.study import Study

DATA_VARIABLE = "PASST_BENCH_DATA"  # a folder whose sub-folders hold data sets


@dataclass(frozen=True)
class Request:
    """A study and what the command line says of it.

    Attributes:
        study: name in ``ablations/``, or path of a study file.
        out: the store's folder.
        sets: overrides of the base recipe, ``a.b=value``.
        data: folders of data sets, ``NAME=DIR``.
        seeds: number of seeds.
        folds: number of folds.
        device: device type.
        name: under which the study stands in the store and among the reports.
        variants: names of those that the command is about; none is all.
        baseline: whether the baseline comes along.
    """

    study: str
    out: Path
    sets: Sequence[str] = ()
    data: Sequence[str] = ()
    seeds: int | None = None
    folds: int | None = None
    device: str | None = None
    name: str | None = None
    variants: Sequence[str] = ()
    baseline: bool = True


@dataclass(frozen=True)
class Prepared:
    """A study, planned: what most commands begin with."""

    plan: StudyPlan
    context: Context
    datasets: Datasets


def prepare_study(request: Request) -> Prepared:
    """Loads, overrides and expands a study.

    Raises:
        InputError: whatever of it cannot be run.
    """
    file = load_study(request.study)
    check_folder(request.out)
    study = changed(file.study, request)
    check_choice(
        request.variants,
        request.baseline,
        known=[variant.name for variant in study.variants],
        baselines=[study.baseline],
        source=study.name,
    )
    if request.name is not None:
        study = replace(study, name=plain_name(request.name, field="--name"))
    return expand(study, request, file.notebook)


def changed(study: Study, request: Request) -> Study:
    """A study with what the command line changes of its base recipe; its variants come after it.

    Raises:
        InputError: an unknown field, or a value that the field does not take.
    """
    changes = parse_assignments(list(request.sets))
    if request.device is not None:
        changes["engine.device"] = request.device
    return replace(study, base=override(study.base, changes, source="--set"))


def expand(
    study: Study, request: Request, notebook: str, only: Collection[str] | None = None
) -> Prepared:
    """Expands a study on the data that the command line names, for the variants that it names.

    Args:
        study: what to expand.
        request: what the command line says.
        notebook: docstring of the study file.
        only: names of the variants that can be planned here; None is all.

    Raises:
        InputError: whatever of it cannot be run.
    """
    context = Context(request.out, data_folders(request.data))
    datasets = Datasets(context)
    plan = plan_study(
        study,
        context,
        seeds=request.seeds,
        folds=request.folds,
        notebook=notebook,
        command=typed(),
        datasets=datasets,
        only=only,
    )
    chosen = choose_variants(plan, request.variants, request.baseline)
    return Prepared(chosen, context, datasets)


def check_choice(
    names: Collection[str],
    baseline: bool,
    *,
    known: Collection[str],
    baselines: Collection[str],
    source: str,
) -> None:
    """Refuses a choice of variants that there is not.

    Args:
        names: of the variants that were asked for; none is all.
        baseline: whether the baseline comes along.
        known: names that may be asked for.
        baselines: names of the baselines, one a study.
        source: what the variants are of.

    Raises:
        InputError: an unknown name, or a baseline that is asked for and left out at once.
    """
    for name in names:
        if name not in known:
            raise InputError(
                "no such variant",
                source=source,
                field="--variant",
                value=name,
                remedy=choose_from(known, name),
            )
        if name in baselines and not baseline:
            raise InputError(
                "this is the baseline, which --no-baseline leaves out",
                source=source,
                field="--variant",
                value=name,
                remedy="Leave one of the two options out.",
            )


def choose_variants(plan: StudyPlan, names: Collection[str], baseline: bool) -> StudyPlan:
    """The plan for some variants alone; `StudyPlan.whole` stays.

    Args:
        plan: of the whole study.
        names: of the variants, see `check_choice`; none is all.
        baseline: whether the baseline comes along.
    """
    if baseline and not names:
        return plan
    beside = {plan.record.baseline} if baseline else set()
    wanted = {*names} or {v.name for v in plan.record.variants} - {plan.study.baseline}
    variants = tuple(v for v in plan.record.variants if v.name in wanted | beside)
    # Variants may share a cell; it then goes by the first of those that are left.
    owners = {cell.key: v.name for v in reversed(variants) for cell in v.cells}
    cells = [replace(cell, variant=owners[cell.key]) for cell in plan.cells if cell.key in owners]
    return replace(plan, record=replace(plan.record, variants=variants), cells=tuple(cells))


def check_folder(out: Path) -> None:
    """Refuses a store's folder that is none.

    Raises:
        InputError: something else stands at the path or on the way to it.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise InputError(
                "a file, and no folder",
                source=path,
                field="--out",
                value=str(out),
                remedy="Give a folder; it is made where there is none.",
            )


def data_folders(items: Sequence[str]) -> dict[str, Path]:
    """Folders of data sets by name: those given, and those below ``PASST_BENCH_DATA``.

    Raises:
        InputError: an item that is not ``NAME=DIR``.
    """
    root = os.environ.get(DATA_VARIABLE)
    folders = find_folders(Path(root)) if root else {}
    for item in items:
        name, mark, folder = item.partition("=")
        if not mark or not name or not folder:
            raise InputError(
                "not NAME=DIR",
                field="--data",
                value=item,
                remedy="Write e.g. --data esc50=/data/ESC-50.",
            )
        DATASETS.get(name)  # a name that no data set has would be passed over in silence
        folders[name] = Path(folder)
    return folders


def typed() -> str:
    """The command as it was typed, with DIR in place of this machine's absolute paths."""
    words = []
    for word in sys.argv[1:]:
        name, mark, value = word.rpartition("=")
        if Path(value).is_absolute():
            value = Path(value).name if value.endswith(".py") else "DIR"
        words.append(shlex.quote(f"{name}{mark}{value}"))
    return " ".join(["passt-bench", *words])
