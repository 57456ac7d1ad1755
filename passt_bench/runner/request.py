"""The request of a command, how to run it, and its folders."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from passt_bench.errors import InputError, check_known, without_password
from passt_bench.processes import default_workers
from passt_bench.records.run import Status, StudyRecord
from passt_bench.registry import DATASETS
from passt_bench.spec.study import Study, override, parse_assignments

if TYPE_CHECKING:
    from passt_bench.measure.target import PublishedProtocol

T = TypeVar("T")
DATA_VARIABLE = "PASST_BENCH_DATA"  # a folder whose sub-folders hold data sets


@dataclass(frozen=True)
class StudyRequest:
    """A study, and the changes to it from the command line."""

    study: str  # name of a study, or path of a study file
    overrides: Sequence[str] = ()  # of the base recipe, ``a.b=value``
    seeds: int | None = None  # number of seeds
    folds: int | None = None  # number of folds
    device: str | None = None
    name: str | None = None  # of the study in records and reports
    variants: Sequence[str] = ()  # names; empty is all
    with_baseline: bool = True
    data: Sequence[str] = ()  # the data sets whose folders are given, by name


@dataclass(frozen=True)
class RunConfig:
    """How to run a study; none of these settings decides a result."""

    workers: int = field(default_factory=default_workers)  # number of processes in parallel
    per_gpu: int = 1  # number of processes in parallel on one GPU
    fresh_processes: bool = False  # one for each run
    retry: tuple[Status, ...] = ()  # statuses of runs to try again
    timeout: float | None = None  # seconds per attempt at a run, including those before a restart
    memory: int | None = None  # maximum bytes that the process of a run may allocate
    checkpoint_seconds: float = 20.0  # between two checkpoints of a run
    keep_checkpoints: bool = False  # also after the run has finished
    # Which trained models are written to the folders of their records, see `with_kept_models`.
    keep_models: bool | None = None
    curves: bool = False  # prints loss and validation metric of each epoch
    until_decided: bool = False  # runs one planned look after another, until no verdict is open
    part: tuple[int, int] = (1, 1)  # of the study's runs: the second of three is (2, 3)
    dask: str | None = None  # address of a Dask scheduler, whose workers train the runs
    cost: bool = True  # whether costs are measured after training
    remeasure: bool = False  # measures again costs that are already on record
    published: PublishedProtocol | None = None  # also runs the reference code's speed test
    track: bool = True  # whether the runs are logged to MLflow
    search_minutes: float | None = None  # after which no trial of a search begins

    def share_of(self, cells: Sequence[T]) -> Sequence[T]:
        """This command's part of a study's cells."""
        number, of = self.part
        return cells[number - 1 :: of]


@dataclass(frozen=True)
class Paths:
    """The folders of a command."""

    runs: Path  # of the records
    data: Mapping[str, Path] = field(default_factory=dict)  # by name of the data set
    pages: Path | None = None  # by default ``reports`` in the folder of the records
    storage: str | None = None  # Optuna's, of a search; by default a journal in ``runs``

    @property
    def reports(self) -> Path:
        """The folder of the rendered pages."""
        return self.pages or self.runs / "reports"

    @property
    def cache(self) -> Path:
        """The folder of the cached features."""
        return self.runs / "cache"


def check_device_name(device: str, field: str = "--device") -> None:
    """Refuses a device that is neither cpu nor cuda (raises `InputError`)."""
    if device not in ("cpu", "cuda"):
        remedy = "Known: cpu, cuda."  # without the nearest name, which is cpu for gpu
        raise InputError("unknown device", field=field, value=device, remedy=remedy)


def apply_overrides(study: Study, request: StudyRequest) -> Study:
    """The study with the request's changes in its base recipe (wrong ones raise `InputError`)."""
    changes = parse_assignments(list(request.overrides))
    if request.device is not None:
        check_device_name(request.device)
        changes["engine.device"] = request.device
    of_runs = {"--seeds": request.seeds, "--folds": request.folds}
    of_runs["--no-baseline"] = None if request.with_baseline else 1
    for option, value in of_runs.items():
        if value is not None and not study.seeds:
            problem = "this study has no runs, only costs, which are ratios to the baseline"
            raise study.error(problem, option, value, "Leave it out.")
    base, metric = override(study.base, changes, source="--set"), study.metric
    # Own data may not have what the study's metric needs; who sets others is judged by the first.
    if "metrics" in changes and metric not in base.metrics:
        metric = base.metrics[0]
    return replace(study, base=base, metric=metric)


def with_seeds(study: Study, seeds: int | None) -> Study:
    """The study with a number of seeds: its first ones, or more, continued after its last seed.

    It has none of its looks if these seeds do not suffice for all of them.
    """
    if seeds is None:
        return study
    if seeds < 1:
        raise study.error("must be at least 1", "--seeds", seeds, "Give 1 or more.")
    own = study.seeds
    more = tuple(range(max(own) + 1, max(own) + 1 + seeds - len(own)))
    looks = study.looks if max(study.looks, default=0) <= seeds else ()
    return replace(study, seeds=(own + more)[:seeds], looks=looks)


def check_choice(
    request: StudyRequest, known: Collection[str], baselines: Collection[str], source: str
) -> None:
    """Refuses unknown variants, and a baseline both chosen and excluded (raises `InputError`)."""
    for name in request.variants:
        check_known(name, known, "no such variant", field="--variant", source=source)
        if name in baselines and not request.with_baseline:
            problem = "this is the baseline, which --no-baseline excludes"
            remedy = "Omit one of the two options."
            raise InputError(problem, source=source, field="--variant", value=name, remedy=remedy)


def choose(record: StudyRecord, names: Collection[str], baseline: bool) -> StudyRecord:
    """The record of a study with only some variants (none named: all), see `check_choice`."""
    wanted = {*names} or {variant.name for variant in record.variants} - {record.baseline}
    wanted |= {record.baseline} if baseline else set()
    return replace(record, variants=tuple(v for v in record.variants if v.name in wanted))


def name_and_folder(item: str, field: str = "--data") -> tuple[str, Path]:
    """The data set and the folder in ``NAME=DIR``, a value of ``field`` (raises `InputError`)."""
    name, _, folder = item.partition("=")
    known = name in {each.name for each in DATASETS.all()}
    if not folder and not known and Path(item).exists():
        problem, remedy = "the name of the data set is missing", f"Write manifest={item}."
        raise InputError(problem, field=field, value=item, remedy=remedy)
    if not name or (known and not folder):
        problem = "the folder is missing" if name else "the name of the data set is missing"
        remedy = f"Write {name or 'NAME'}={folder or 'DIR'}, e.g. esc50=/data/ESC-50."
        raise InputError(problem, field=field, value=item, remedy=remedy)
    return DATASETS.get(name).name, Path(folder)


def data_folders(items: Sequence[str], alone: bool = False) -> dict[str, Path]:
    """Folders by data set: those given (see `name_and_folder`), those in ``PASST_BENCH_DATA``.

    With ``alone``, an item may be only the name of a data set.
    """
    from passt_bench.data import find_folders  # slow

    root = os.environ.get(DATA_VARIABLE)
    folders = find_folders(Path(root)) if root else {}
    names = {known.name for known in DATASETS.all()} if alone else ()
    return folders | dict(name_and_folder(item) for item in items if item not in names)


def typed_command() -> str:
    """The command as it was typed, with DIR for this machine's absolute paths, no password."""
    words = []
    for word in sys.argv[1:]:
        name, mark, value = word.rpartition("=")
        if Path(value).is_absolute():
            value = Path(value).name if value.endswith(".py") else "DIR"
        words.append(shlex.quote(f"{name}{mark}{value}"))
    return without_password(" ".join(["passt-bench", *words]))
