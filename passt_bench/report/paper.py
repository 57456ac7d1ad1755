"""Renders the tables of the PaSST paper, with the result of each row here or why it has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.compare import VariantMean
from passt_bench.analysis.results import Results
from passt_bench.paper import PUBLISHED_TABLES, Available, Row, read_published, why_not
from passt_bench.published_weights import PUBLISHED
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.store import Store
from passt_bench.report.files import write_page, write_table, write_text
from passt_bench.report.tables import Column, Table
from passt_bench.report.text import NAN, Span, interval
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import flatten

CITED = "cited"  # the authors took the row's number from another paper


@dataclass(frozen=True)
class _Source:
    """A table of the paper: its caption, columns and data sets."""

    caption: str
    titles: Mapping[str, str]
    datasets: Mapping[str, str]  # registered name → name in the paper


_TABLES = {
    "table1": _Source(
        "Table 1: single models on AudioSet. Speed is training throughput on one Titan RTX; memory "
        "and tokens are those of training.",
        {
            "model": "model",
            "own_run": "run by the authors",
            "mAP": "mAP",
            "train_spectrograms_per_s": "clips/s",
            "speed_vs_ast": "speed vs. AST",
            "memory_gb_per_sample": "GB per clip",
            "train_sequence": "tokens",
        },
        {"audioset": "AudioSet"},
    ),
    "table2": _Source(
        "Table 2: ensembles on AudioSet.",
        {"system": "system", "members": "members", "mAP": "mAP"},
        {"audioset": "AudioSet"},
    ),
    "table3": _Source(
        "Table 3: fine-tuned on other data sets, means of three runs; speed-up over PaSST-B, "
        "rounded up by the authors.",
        {
            "model": "model",
            "openmic_mAP": "OpenMIC mAP",
            "openmic_speedup": "speed-up",
            "esc50_accuracy": "ESC-50 accuracy (%)",
            "esc50_speedup": "speed-up",
            "dcase20_accuracy": "DCASE20 accuracy (%)",
            "dcase20_speedup": "speed-up",
            "fsd50k_mAP": "FSD50K mAP",
            "fsd50k_speedup": "speed-up",
        },
        {"openmic": "OpenMIC", "esc50": "ESC-50", "dcase20": "DCASE20", "fsd50k": "FSD50K"},
    ),
}


@dataclass(frozen=True)
class PaperStatus:
    """The state of the paper's rows on this machine."""

    available: Available
    rows: Sequence[Row]
    results: Sequence[Results] = ()  # studies that may have trained some of them
    # Members of an ensemble → the record of its evaluation.
    evaluated: Mapping[tuple[str, ...], EvaluationRecord] = field(default_factory=dict)


def find_evaluations(
    rows: Iterable[Row], stores: Iterable[Store]
) -> dict[tuple[str, ...], EvaluationRecord]:
    """Evaluations of published weights that belong to rows: members → the newest record."""
    by_files = {}
    for store in stores:
        for record in store.evaluations():
            if record.split == "test" and record.patchout is None:
                files = tuple(sorted(member.name for member in record.members))
                by_files[files, record.fingerprint.dataset] = record
    evaluated = {}
    for row in rows:
        files = tuple(sorted(PUBLISHED[name].file for name in row.members))
        if files and (files, row.corpus.name) in by_files:
            evaluated[row.members] = by_files[files, row.corpus.name]
    return evaluated


def render_paper(folder: Path, status: PaperStatus) -> Path:
    """Writes the paper's tables with a column of results here; the path of the page.

    A row counts as run if a study on its data set has a variant of its name, or if its members
    were evaluated on it. Writes ``index.html``, and for each table ``tableN.csv`` as published,
    ``tableN_here.csv``, ``tableN.md`` and ``tableN.tex``.
    """
    tables = []
    for name, source in _TABLES.items():
        made = _paper_table(name, source, status)
        published = (PUBLISHED_TABLES / f"{name}.csv").read_text(encoding="utf-8")
        write_table(folder, made, "paper")
        (folder / f"{name}.csv").replace(folder / f"{name}_here.csv")
        write_text(folder / f"{name}.csv", published)
        tables.append(made)

    def rows(made: Table, *, ran: bool) -> Table:
        kept = (r for r in made.rows if ran == (" (study " in r[-1] or " (evaluation " in r[-1]))
        return replace(made, rows=tuple(kept))

    halves = [(rows(made, ran=True), rows(made, ran=False)) for made in tables]
    context = {"tables": halves, "home": "../index.html"}
    return write_page(folder / "index.html", "paper.html", context)


def _paper_table(table: str, source: _Source, status: PaperStatus) -> Table:
    """A published table; its last column joins it with the results of each data set."""
    first = next(iter(source.titles))
    columns = [
        Column(key, title, None if key in (first, "own_run") else str)
        for key, title in source.titles.items()
    ]
    columns.append(Column("ran_here", "ran here"))
    cells: list[tuple[Any, ...]] = []
    for line in read_published(table):
        outcomes: dict[str, list[str]] = {}
        for dataset, title in source.datasets.items():
            row = next(
                row
                for row in status.rows
                if (row.table, row.name, row.corpus.name) == (table, line[first], dataset)
                and (not row.members or str(len(row.members)) == line["members"])
            )
            outcomes.setdefault(_outcome(row, status), []).append(title)
        ran = "; ".join(f"{', '.join(titles)}: {text}" for text, titles in outcomes.items())
        if len(outcomes) == 1:
            ran = next(iter(outcomes))
        cells.append((*(line[key] or None for key in source.titles), ran))
    return Table(table, source.caption, tuple(columns), tuple(cells))


def _outcome(row: Row, status: PaperStatus) -> str:
    if row.cited:
        return CITED
    result = _evaluated(row, status) if row.members else _trained(row, status)
    return result or ", ".join(why_not(row, status.available)) or "not run yet"


def _evaluated(row: Row, status: PaperStatus) -> str | None:
    record = status.evaluated.get(row.members)
    if record is None or row.metric not in record.metrics:
        return None
    ends = record.intervals.get(row.metric, (NAN, NAN))
    shown = interval(Span(record.metrics[row.metric], *ends))
    of = f" of {row.corpus.evaluation}" if record.clips < row.corpus.evaluation else ""
    return f"{row.metric} {shown} over {record.clips}{of} clips (evaluation {record.key})"


def _trained(row: Row, status: PaperStatus) -> str | None:
    """The result of the study closest to the row's recipe; a failure if all failed."""
    candidates: list[tuple[bool, int, str]] = []
    for result in status.results:
        if result.study.fingerprint.dataset != row.corpus.name or row.recipe is None:
            continue
        for mean in result.means:
            what = _result(result, mean) if mean.variant == row.name else None
            if what is not None:
                recipe = next(v.recipe for v in result.study.variants if v.name == row.name)
                departed = [*_shortfalls(result, mean, row), *deviations(recipe, row.recipe)]
                more = f" and {len(departed) - 3} more" if len(departed) > 3 else ""
                differs = f"; not as published: {', '.join(departed[:3])}{more}" if departed else ""
                shown = f"{what} (study {result.study.name}{differs})"
                candidates.append((not mean.n, len(departed), shown))
    return min(candidates)[2] if candidates else None


def _result(result: Results, mean: VariantMean) -> str | None:
    if mean.n:
        return f"{mean.metric} {interval(Span(mean.value, mean.low, mean.high))}"
    cells = next(v.cells for v in result.study.variants if v.name == mean.variant)
    statuses = {result.records[cell.key].status for cell in cells if cell.key in result.records}
    return f"failed ({', '.join(sorted(statuses))})" if statuses else None


def _shortfalls(result: Results, mean: VariantMean, row: Row) -> list[str]:
    """Describes how many fewer runs or clips there are than behind the published number."""
    runs = mean.n * len(result.study.folds or (1,))
    # With folds too, clips for training and test add up to all clips.
    clips, published = result.study.fingerprint.found, row.corpus.training + row.corpus.evaluation
    fewer = [f"{runs} of {row.runs} runs"] if 0 < runs < row.runs else []
    return fewer + ([f"{clips} of {published} clips"] if clips < published else [])


def deviations(recipe: Recipe, meant: Recipe) -> list[str]:
    """Fields in which a recipe deviates from the one that was meant, as ``training.epochs = 1``.

    Fields of the engine (except precision) and of the cost session are ignored; the file of initial
    weights may be given by its name.
    """
    start, published = recipe.init.checkpoint, PUBLISHED.get(meant.init.checkpoint or "")
    same = start in (None, meant.init.checkpoint, published and published.file)
    meant_values = flatten(asdict(meant))
    ignored = ("engine.", "measurement.", "init.", "salt")
    kept = ("init.source", "engine.precision")
    return ([] if same else [f"init.checkpoint = {start}"]) + [
        f"{name} = {value}"
        for name, value in flatten(asdict(recipe)).items()
        if value != meant_values[name] and (name in kept or not name.startswith(ignored))
    ]
