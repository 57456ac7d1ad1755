"""Rows of published tables: what was published, and what it takes to run a row again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from passt_bench.spec.recipe import Patchout, Recipe

# Why a row cannot be run here; there are no other words for it.
NO_DATA, NO_WEIGHTS, NO_GPU = REASONS = ("no data", "no weights", "no GPU")


@dataclass(frozen=True)
class Corpus:
    """A data set as its authors published it, for plans on machines that do not have it.

    Attributes:
        name: registered name.
        title: as people call it.
        classes: number of classes.
        training: clips to train on; with folds, those of all folds but one.
        evaluation: clips to evaluate; with folds, those of one.
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
        clips_per_second: in training.
        recipe: the setting it was measured in, by which another setting's FLOPs are weighed.
    """

    clips_per_second: float
    recipe: Recipe


@dataclass(frozen=True)
class Row:
    """One number of a published table.

    A row is trained (``study`` and ``recipe``), or the evaluation of published weights
    (``members``), or neither: its number was taken from another paper, and nothing is to be run.

    Attributes:
        table: e.g. ``table1``, as the file of the published numbers.
        name: as the table writes it; the variant of the study has the same.
        corpus: what it was trained or evaluated on.
        metric: registered name.
        published: value of the metric; accuracy as a share.
        study: name of the study that trains it.
        recipe: of its variant, as the protocol says.
        members: names of published weights whose logits are averaged.
        runs: trainings that the published number is the mean of: seeds times folds.
        pace: for the GPU hours.
        speed: clips a second in training as published for this row.
        memory: GB a clip in training as published for this row.
        notes: settings that the paper does not give, and where they come from.
        conflicts: settings that the authors' publications (paper, code, README) give differently:
            which is taken, from where, and what the others say.
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
        """The weights it starts from or consists of."""
        given = self.recipe.init.checkpoint if self.recipe is not None else None
        return self.members or ((given,) if given is not None else ())

    @property
    def device(self) -> str:
        """What it is meant to run on."""
        return self.recipe.engine.device if self.recipe is not None else "cuda"


@dataclass(frozen=True)
class Available:
    """What a machine has.

    Attributes:
        datasets: registered names of the data sets that were found, e.g. ``audioset``.
        weights: names of the published weights that were found.
        gpu: whether there is a CUDA device.
    """

    datasets: frozenset[str] = field(default_factory=frozenset)
    weights: frozenset[str] = field(default_factory=frozenset)
    gpu: bool = False


def reasons(
    dataset: str, weights: Collection[str], device: str, available: Available
) -> tuple[str, ...]:
    """Why something cannot be run on a machine, of `REASONS`; empty where it can.

    Args:
        dataset: that it needs.
        weights: that it needs, all of them.
        device: that it is to run on.
        available: what the machine has.
    """
    found = {
        NO_DATA: dataset in available.datasets,
        NO_WEIGHTS: available.weights.issuperset(weights),
        NO_GPU: device != "cuda" or available.gpu,
    }
    return tuple(reason for reason in REASONS if not found[reason])


def why_not(row: Row, available: Available) -> tuple[str, ...]:
    """Why a row cannot be run on a machine as it is meant to be, of `REASONS`."""
    return reasons(row.corpus.name, row.weights, row.device, available)


def departures(recipe: Recipe, meant: Recipe) -> tuple[str, ...]:
    """Fields in which a recipe departs from the one that was meant, as ``training.epochs = 1``.

    What computes is left out but for its precision, and so are the names of weight files and the
    cost session.
    """
    apart = ("engine.", "measurement.", "init.", "salt")
    kept = ("init.source", "engine.precision")
    mine, theirs = dict(_leaves(recipe)), dict(_leaves(meant))
    return tuple(
        f"{name} = {value}"
        for name, value in mine.items()
        if value != theirs[name] and (name in kept or not name.startswith(apart))
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
