"""Rows of published tables: what was published, and what a machine needs to reproduce a row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from passt_bench.spec.recipe import Patchout, Recipe

# All reasons why a row cannot be run on a machine.
NO_DATA, NO_WEIGHTS, NO_GPU = REASONS = ("no data", "no weights", "no GPU")


@dataclass(frozen=True)
class Corpus:
    """A data set as its authors published it, for plans on machines that do not have it.

    Attributes:
        name: registered name.
        title: usual name.
        classes: number of classes.
        training: number of training clips; with folds, of all folds but one.
        evaluation: number of test clips; with folds, of one fold.
        folds: number of folds; 1 for a fixed split.
    """

    name: str
    title: str
    classes: int
    training: int
    evaluation: int
    folds: int = 1


@dataclass(frozen=True)
class Pace:
    """How fast a published model trained on one Nvidia Titan RTX (paper, Table 1).

    Attributes:
        clips_per_second: speed of training.
        recipe: the setting that was measured; other settings are scaled by their FLOPs.
    """

    clips_per_second: float
    recipe: Recipe


@dataclass(frozen=True)
class Row:
    """One number of a published table.

    A row is a training (``study`` and ``recipe``), or an evaluation of published weights
    (``members``), or cited from another paper, with nothing to run.

    Attributes:
        table: table of the paper, e.g. ``table1``; the file of published numbers has this name.
        name: name in the table, and of the study's variant.
        corpus: data set of training or evaluation.
        metric: registered name.
        published: value of the metric; accuracy as a fraction.
        study: name of the study that trains it.
        recipe: recipe of its variant, as the protocol says.
        members: names of published weights whose logits are averaged.
        runs: number of trainings (seeds times folds) that the published number averages.
        pace: published training speed, for an estimate of GPU hours.
        speed: clips per second in training, as published for this row.
        memory: GB per clip in training, as published for this row.
        notes: settings that the paper does not give, and where they come from.
        conflicts: settings that the authors' publications (paper, code, README) give differently:
            which one is used here, its source, and the others.
    """

    table: str
    name: str
    corpus: Corpus
    metric: str
    published: float
    study: str | None = None
    recipe: Recipe | None = None
    members: tuple[str, ...] = ()
    runs: int = 1
    pace: Pace | None = None
    speed: float | None = None
    memory: float | None = None
    notes: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def cited(self) -> bool:
        """Whether the number was taken from another paper, with nothing to run."""
        return self.study is None and not self.members

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights that it starts from or consists of."""
        given = self.recipe.init.checkpoint if self.recipe is not None else None
        return self.members or ((given,) if given is not None else ())

    @property
    def device(self) -> str:
        """The device that it is meant for."""
        return self.recipe.engine.device if self.recipe is not None else "cuda"


@dataclass(frozen=True)
class Available:
    """What a machine has.

    Attributes:
        datasets: registered names of the available data sets, e.g. ``audioset``.
        weights: names of the available published weights.
        gpu: whether there is a CUDA device.
    """

    datasets: frozenset[str] = field(default_factory=frozenset)
    weights: frozenset[str] = field(default_factory=frozenset)
    gpu: bool = False


def reasons(
    dataset: str, weights: Collection[str], device: str, available: Available
) -> tuple[str, ...]:
    """Why something cannot be run on a machine, see `REASONS`; empty if it can.

    Args:
        dataset: required data set.
        weights: required weights.
        device: required device.
        available: what the machine has.
    """
    satisfied = {
        NO_DATA: dataset in available.datasets,
        NO_WEIGHTS: available.weights.issuperset(weights),
        NO_GPU: device != "cuda" or available.gpu,
    }
    return tuple(reason for reason in REASONS if not satisfied[reason])


def why_not(row: Row, available: Available) -> tuple[str, ...]:
    """Why a row cannot be run on a machine as it is meant to be, see `REASONS`."""
    return reasons(row.corpus.name, row.weights, row.device, available)


def deviations(recipe: Recipe, meant: Recipe) -> tuple[str, ...]:
    """Fields in which a recipe deviates from the one that was meant, as ``training.epochs = 1``.

    Fields of the engine (except precision), of the cost session and of weight files are ignored.
    """
    ignored = ("engine.", "measurement.", "init.", "salt")
    kept = ("init.source", "engine.precision")
    meant_values = dict(_leaves(meant))
    return tuple(
        f"{name} = {value}"
        for name, value in _leaves(recipe)
        if value != meant_values[name] and (name in kept or not name.startswith(ignored))
    )


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in fields(node):
        value = getattr(node, item.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def patchout_in_short(patchout: Patchout) -> str:
    """A setting as the paper writes it: ``t40 f4``, ``u400``, or ``none``."""
    letters = {"t": patchout.time, "f": patchout.frequency, "u": patchout.patches}
    counts = " ".join(f"{letter}{count}" for letter, count in letters.items() if count)
    return counts or (f"{patchout.kind} {patchout.rate:g}" if patchout.rate else "none")
