"""What a command asks for, how it runs and where its files are."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from passt_bench.data import find_folders
from passt_bench.errors import InputError, choose_from
from passt_bench.processes import default_workers
from passt_bench.records.run import STATUSES, Status, StudyRecord
from passt_bench.registry import DATASETS
from passt_bench.spec.override import override, parse_assignments
from passt_bench.spec.study import Study

DATA_VARIABLE = "PASST_BENCH_DATA"  # a folder whose sub-folders hold data sets


@dataclass(frozen=True)
class StudyRequest:
    """What is asked for: a study, and what the command line changes of it.

    Attributes:
        study: name of a study, or path of a study file.
        sets: overrides of the base recipe, ``a.b=value``.
        seeds: number of seeds.
        folds: number of folds.
        device: device type.
        name: of the study in records and reports.
        variants: names of those that the command is about; none is all.
        baseline: whether the baseline comes along.
        trials: of a search in all, those of earlier calls included.
    """

    study: str
    sets: Sequence[str] = ()
    seeds: int | None = None
    folds: int | None = None
    device: str | None = None
    name: str | None = None
    variants: Sequence[str] = ()
    baseline: bool = True
    trials: int = 40


@dataclass(frozen=True)
class RunConfig:
    """How to run; none of it decides a result.

    Attributes:
        workers: processes at a time.
        retry: statuses that are tried again.
        timeout: seconds that an attempt at a run may take, its earlier processes included.
        memory: bytes that the process of a run may allocate; None is no limit.
        checkpoint_seconds: between two checkpoints of a run.
        keep_checkpoints: whether they stay when the record is written.
        keep_models: whether the trained model is written to the folder of the record.
        cost: whether the cost session follows.
        remeasure: whether it measures again what it has measured before.
        track: whether the runs are logged to MLflow.
        search_minutes: for a search with its confirmation: no trial begins that would not leave
            time for that; None is no limit.
    """

    workers: int = field(default_factory=default_workers)
    retry: tuple[Status, ...] = ()
    timeout: float | None = None
    memory: int | None = None
    checkpoint_seconds: float = 20.0
    keep_checkpoints: bool = False
    keep_models: bool = False
    cost: bool = True
    remeasure: bool = False
    track: bool = True
    search_minutes: float | None = None

    @property
    def remeasured(self) -> tuple[Status, ...]:
        """Statuses of cost measurements that are taken again."""
        return STATUSES if self.remeasure else self.retry


@dataclass(frozen=True)
class Paths:
    """Where things are read and written.

    Attributes:
        runs: folder of the records.
        data: data set name → folder.
        pages: folder of the rendered pages; None is ``reports`` in the folder of the records.
        storage: address of the Optuna storage of a search; None is a journal below ``runs``.
    """

    runs: Path
    data: Mapping[str, Path] = field(default_factory=dict)
    pages: Path | None = None
    storage: str | None = None

    @property
    def reports(self) -> Path:
        """The folder of the rendered pages."""
        return self.pages or self.runs / "reports"

    @property
    def cache(self) -> Path:
        """Where features are kept."""
        return self.runs / "cache"


def changed(study: Study, request: StudyRequest) -> Study:
    """A study with what the command line changes of its base recipe; its variants come after it.

    Raises:
        InputError: an unknown field, or a value that the field does not take.
    """
    changes = parse_assignments(list(request.sets))
    if request.device is not None:
        changes["engine.device"] = request.device
    return replace(study, base=override(study.base, changes, source="--set"))


def with_seeds(study: Study, seeds: int | None) -> Study:
    """The study with that many seeds: its first ones, or more, counted on from its last.

    Raises:
        InputError: fewer than one.
    """
    if seeds is None:
        return study
    if seeds < 1:
        raise InputError(
            "at least one seed", field="--seeds", value=seeds, remedy="Give 1 or more."
        )
    have = study.seeds
    more = tuple(range(max(have) + 1, max(have) + 1 + seeds - len(have)))
    return replace(study, seeds=(have + more)[:seeds])


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


def choose(record: StudyRecord, names: Collection[str], baseline: bool) -> StudyRecord:
    """The record of a study with some of its variants alone.

    Args:
        record: of the whole study.
        names: of the variants, see `check_choice`; none is all.
        baseline: whether the baseline comes along.
    """
    wanted = {*names} or {variant.name for variant in record.variants} - {record.baseline}
    wanted |= {record.baseline} if baseline else set()
    return replace(record, variants=tuple(v for v in record.variants if v.name in wanted))


def name_and_folder(item: str, field: str = "--data") -> tuple[str, Path]:
    """The data set and the folder in ``NAME=DIR``.

    Args:
        item: what was given.
        field: the option or argument that it was given for.

    Raises:
        InputError: it is not of that form, or there is no such data set.
    """
    name, _, folder = item.partition("=")
    if not name or not folder:
        raise InputError(
            "not NAME=DIR", field=field, value=item, remedy="Write e.g. esc50=/data/ESC-50."
        )
    return DATASETS.get(name).name, Path(folder)


def data_folders(items: Sequence[str]) -> dict[str, Path]:
    """Folders of data sets by name: those given, and those below ``PASST_BENCH_DATA``.

    Raises:
        InputError: an item that is not ``NAME=DIR``.
    """
    root = os.environ.get(DATA_VARIABLE)
    found = find_folders(Path(root)) if root else {}
    return found | dict(map(name_and_folder, items))


def typed() -> str:
    """The command as it was typed, with DIR in place of this machine's absolute paths."""
    words = []
    for word in sys.argv[1:]:
        name, mark, value = word.rpartition("=")
        if Path(value).is_absolute():
            value = Path(value).name if value.endswith(".py") else "DIR"
        words.append(shlex.quote(f"{name}{mark}{value}"))
    return " ".join(["passt-bench", *words])
