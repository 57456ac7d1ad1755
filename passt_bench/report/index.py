"""The index of all reports: one entry a rendered study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from passt_bench.errors import InputError
from passt_bench.records.store import COMPARISONS, read_comparison
from passt_bench.report.evaluation_page import FOLDER as EVALUATIONS
from passt_bench.report.files import SHOWN, render_template, write_text
from passt_bench.report.page import SUMMARY
from passt_bench.report.search_page import PAGE as SEARCH


def render_index(root: Path) -> Path:
    """Writes ``root/index.html``, which links every report below ``root``.

    Reads the ``summary.json`` that `page.render` left in each folder; the newest study is first.

    Args:
        root: the folder of all reports.

    Returns:
        The path of the index.

    Raises:
        InputError: a summary is cut off.
    """
    studies = [_summary(path) for path in sorted(root.glob(f"{SHOWN}/{SUMMARY}"))]
    studies.sort(key=lambda item: str(item["finished"]), reverse=True)
    comparisons = [read_comparison(name, root / name) for name in _comparisons(root)]
    paper = (root / "paper" / "index.html").is_file()
    evaluations = (root / EVALUATIONS / "index.html").is_file()
    context = {
        "studies": studies,
        "comparisons": comparisons,
        "evaluations": evaluations,
        "paper": paper,
    }
    return write_text(root / "index.html", render_template("index.html", context))


def _comparisons(root: Path) -> list[str]:
    return sorted(path.stem for path in root.glob(f"{SHOWN}/{COMPARISONS}/*.json"))


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"not a whole JSON file ({error})", source=path, remedy="Render its study again."
        ) from None
    if not isinstance(summary, dict) or "study" not in summary:
        raise InputError("not a summary of a report", source=path, remedy="Render it again.")
    search = (path.parent / SEARCH).is_file()
    return {**summary, "folder": path.parent.name, "search": SEARCH if search else None}
