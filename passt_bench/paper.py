"""The paper's protocols, data sets and published numbers, as studies and rows.

Koutini, Schlüter, Eghbal-zadeh, Widmer: Efficient Training of Audio Transformers with Patchout,
Interspeech 2022, arXiv 2110.05069. The numbers, and each setting with its source, are in
``report/published/*.csv``; files with line numbers are those of the reference code,
github.com/kkoutini/PaSST at 2a5c818.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from passt_bench.errors import check_known
from passt_bench.published_weights import ENSEMBLES
from passt_bench.spec import (
    Recipe,
    Study,
    Variant,
    override,
    panns_frontend,
    parse_assignments,
    passt_frontend,
    validate,
)

PUBLISHED_TABLES = Path(__file__).parent / "report" / "published"
# AudioSet has two: paper and code disagree. The paper's times fit the code's number of clips.
PROTOCOLS = ("audioset paper", "audioset code", "openmic", "esc50", "dcase20", "fsd50k")
TRAINED = "audioset code"  # the protocol of the rows on AudioSet
ALL_ROWS = "all"  # in place of a row: settings that the rows of the tables add to a protocol
_FRONTENDS = {"passt": passt_frontend, "panns": panns_frontend}


@lru_cache
def read_published(name: str) -> tuple[dict[str, str], ...]:
    """The lines of a published table."""
    with (PUBLISHED_TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@dataclass(frozen=True)
class Corpus:
    """A data set as the authors used it, for plans on machines that do not have it."""

    name: str  # registered
    title: str
    classes: int
    training: int  # clips; with folds, of all folds but one
    evaluation: int  # clips; with folds, of one fold
    folds: int  # 1 for a fixed split
    disk_gb: float  # of the published files (AudioSet: as mp3 of 128 kbit/s)


@lru_cache
def corpora() -> dict[str, Corpus]:
    """The data sets of the paper, by name."""
    return {entry.name: entry for entry in validate(list[Corpus], read_published("datasets"))}


def settings(protocol: str, row: str = "") -> dict[str, Any]:
    """Dotted field → value of a protocol itself, of `ALL_ROWS`, or of one row of the tables."""
    parts = ("shared", protocol.split()[0], protocol)
    found = {}
    for line in read_published("protocols"):
        if line["protocol"] in parts and line["row"] == row:
            name, text = line["field"], line["value"]
            value = parse_assignments([f"{name}={text}"])[name]
            found[name] = _FRONTENDS[text]() if name == "frontend" else value
    return found


def protocol_recipe(protocol: str) -> Recipe:
    """A protocol as a recipe, without the model, patchout and initial weights of a row.

    Raises:
        InputError: it is none of `PROTOCOLS`.
    """
    check_known(protocol, PROTOCOLS, "unknown protocol", field="protocol")
    return override(Recipe(), settings(protocol), source=f"protocol {protocol}")


# The studies that train the rows: name → protocol and question.
STUDIES = {
    "paper_table1": (
        TRAINED,
        "What do CNNs, AST and PaSST with and without patchout reach on AudioSet?",
    ),
    **{
        f"paper_table3_{name}": (name, f"How much patchout does fine-tuning on {title} tolerate?")
        for name, title in (
            ("openmic", "OpenMIC-2018"),
            ("esc50", "ESC-50"),
            ("dcase20", "TAU Urban Acoustic Scenes 2020 Mobile"),
            ("fsd50k", "FSD50K"),
        )
    },
}


@lru_cache
def published_study(name: str) -> Study:
    """One of `STUDIES`; its variants have the names of the rows.

    A variant sets only what it changes, so ``--set model.width=192`` makes all of them smaller.
    """
    protocol, question = STUDIES[name]
    base = override(protocol_recipe(protocol), settings(protocol, ALL_ROWS))
    names = (line["model"] for line in read_published("table1"))
    return Study(
        name=name,
        question=question,
        base=base,
        baseline="PaSST-B",
        variants=tuple(
            Variant(row, settings(protocol, row)) for row in names if settings(protocol, row)
        ),
        metric=base.metrics[0],
        seeds=(0,) if base.data.name == "audioset" else (0, 1, 2),
    )


@dataclass(frozen=True)
class Row:
    """One published number: a training run, an evaluation of published weights, or only cited."""

    table: str  # of the paper, e.g. ``table1``
    name: str  # in the table, and of the study's variant
    protocol: str  # one of `PROTOCOLS`
    metric: str
    published: float  # accuracy as a fraction
    study: Study | None = None  # the one with the variant that trains it
    members: tuple[str, ...] = ()  # names of published weights whose logits are averaged

    @property
    def corpus(self) -> Corpus:
        """The data set of training or evaluation."""
        return corpora()[self.protocol.split()[0]]

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of its variant."""
        return self.study.recipe(self.study.variant(self.name)) if self.study else None

    @property
    def runs(self) -> int:
        """Number of training runs (seeds times folds) that the published number averages."""
        return len(self.study.seeds) * self.corpus.folds if self.study else 1

    @property
    def cited(self) -> bool:
        """Whether the number was taken from another paper, with nothing to run."""
        return self.study is None and not self.members

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights that it starts from or consists of."""
        given = self.recipe.init.checkpoint if self.recipe is not None else None
        return self.members or ((given,) if given is not None else ())


@lru_cache
def published_rows() -> tuple[Row, ...]:
    """The numbers of all tables of the paper; those of Table 3 on AudioSet are in Table 1."""
    rows = _rows("table1", TRAINED, published_study("paper_table1")) + _rows("table2", TRAINED)
    for name, (protocol, _) in STUDIES.items():
        rows += _rows("table3", protocol, published_study(name)) if "3" in name else []
    return tuple(rows)


def published_numbers(study: str) -> dict[str, float]:
    """Variant → published number, of one of `STUDIES`; empty for others."""
    rows = (row for row in published_rows() if row.study) if study in STUDIES else ()
    return {row.name: row.published for row in rows if row.study and row.study.name == study}


def _rows(table: str, protocol: str, study: Study | None = None) -> list[Row]:
    """The rows of a table on the data of a protocol; those of no variant are cited or ensembles."""
    trained = {variant.name for variant in study.variants} if study else set()
    data, rows = protocol.split()[0], []
    for line in read_published(table):
        name = next(iter(line.values()))
        percent = line.get(f"{data}_accuracy")
        value = line.get(f"{data}_mAP") or line.get("mAP")
        size = line.get("members", "") if name.startswith("PaSST") else ""
        rows.append(
            Row(
                table=table,
                name=name,
                protocol=protocol,
                metric=study.metric if study else "mAP_official",
                published=round(float(percent) / 100, 4) if percent else float(value or "nan"),
                study=study if name in trained else None,
                members=next((m for m in ENSEMBLES.values() if str(len(m)) == size), ()),
            )
        )
    return rows


@dataclass(frozen=True)
class Pace:
    """How fast a model of Table 1 trained on one Nvidia Titan RTX, and in how much memory."""

    clips_per_second: float
    gb_per_clip: float
    recipe: Recipe


@lru_cache
def _paces() -> tuple[Pace, ...]:
    """The pace of each row of Table 1 that the authors ran themselves."""
    paces = []
    for line in read_published("table1"):
        if line["own_run"] == "yes":
            changes = settings(TRAINED, ALL_ROWS) | settings(TRAINED, line["model"])
            speed, memory = line["train_spectrograms_per_s"], line["memory_gb_per_sample"]
            recipe = override(protocol_recipe(TRAINED), changes)
            paces.append(Pace(float(speed), float(memory), recipe))
    return tuple(paces)


def find_pace(recipe: Recipe) -> Pace | None:
    """The pace of the row of Table 1 with a recipe's model, patchout and length of clips."""

    def parts(of: Recipe) -> tuple[Any, ...]:
        model = replace(of.model, patch=of.model.patch or (16, 16), frames=None)
        return model, of.patchout, of.data.seconds

    return next((pace for pace in _paces() if parts(pace.recipe) == parts(recipe)), None)


# All reasons why a row cannot be run on a machine.
NO_DATA, NO_WEIGHTS, NO_GPU = REASONS = ("no data", "no weights", "no GPU")


@dataclass(frozen=True)
class Available:
    """The data sets and published weights that a machine has, by name, and whether it has CUDA."""

    datasets: frozenset[str] = field(default_factory=frozenset)
    weights: frozenset[str] = field(default_factory=frozenset)
    gpu: bool = False


def why_not(row: Row, available: Available) -> tuple[str, ...]:
    """Why a row cannot be run on a machine; see `REASONS`."""
    device = row.recipe.engine.device if row.recipe else "cuda"
    satisfied = {
        NO_DATA: row.corpus.name in available.datasets,
        NO_WEIGHTS: available.weights.issuperset(row.weights),
        NO_GPU: device != "cuda" or available.gpu,
    }
    return tuple(reason for reason in REASONS if not satisfied[reason])
