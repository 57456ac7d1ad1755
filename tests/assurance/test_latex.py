"""Tables of committed reports, set by a real LaTeX in a paper of two columns."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from passt_bench.cli.results import paper_status
from passt_bench.report.build import load
from passt_bench.report.paper import render_paper
from passt_bench.report.tables import Column, Table, to_latex
from passt_bench.report.terminal import result_tables
from passt_bench.report.text import Span, interval
from passt_bench.report.view import study_view

REPORTS = Path(__file__).parents[2] / "reports"
PAGE = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs,graphicx,siunitx}
\begin{document}
%s
\end{document}
"""
SOME = {
    "verdicts": ("variant", "difference", "verdict", "train_step_ratio"),
    "speed": ("variant", "clips_per_second", "clips_ratio"),
}
WIDEST = 320  # points; a column of 229 then shows footnotes' size at 70 %
MACROS = "\\%&$#_{}~^<>|−×±≥≤–—…“”’[]"

pytestmark = pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="no pdflatex (Debian: texlive-latex-recommended, texlive-science)",
)


def compiled(folder: Path, *parts: str) -> str:
    """The log of a document of these parts; fails where LaTeX stops."""
    (folder / "paper.tex").write_text(PAGE % "\n\\clearpage\n".join(parts), encoding="utf-8")
    words = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "paper.log").read_text(encoding="utf-8", errors="replace")


def test_every_table_of_committed_reports_compiles_and_fits(tmp_path: Path) -> None:
    made = {}
    for name in ("quick", "engine_x_patchout", "search-quick", "equal_cost"):
        results, search = load(name, REPORTS, REPORTS)
        made[name] = result_tables(study_view(results) if results else None, search)
        made[name].pop("per_class", None)  # tested below
    texts = [to_latex(t, f"{n}-{t.name}") for n, found in made.items() for t in found.values()]
    render_paper(tmp_path, paper_status(REPORTS, REPORTS, {}))
    texts += [(tmp_path / f"table{number}.tex").read_text() for number in (1, 2, 3)]
    assert len(texts) > 20
    log = compiled(tmp_path, *texts)
    assert "Overfull" not in log and "multiply defined" not in log
    widths = []
    for name, table in [("quick", "verdicts"), ("engine_x_patchout", "speed")]:
        text = to_latex(made[name][table].only(SOME[table]), f"{name}-{table}", narrow=True)
        text = re.sub(r"\\resizebox{.*", r"\\sbox0{%", text)  # before it is scaled down
        told = r"\end{tabular}}\typeout{natural width \the\wd0}"
        log = compiled(tmp_path, text.replace(r"\end{tabular}}", told))
        widths += [float(width) for width in re.findall(r"natural width ([\d.]+)pt", log)]
    assert widths and max(widths) < WIDEST


def test_characters_of_names_and_numbers_are_set(tmp_path: Path) -> None:
    columns = (
        Column("class", "a % of_it & more"),
        Column("value", "value", interval, span=True),
        Column("count", "count", str, "%"),
    )
    rows = [(f"dog {sign}", Span(-0.5, -0.6, -0.4), "12 345") for sign in MACROS]
    rows += [("[x]", "oom [out of memory]", None), ("plain", Span(12.0), "1")]
    table = Table("all", f"Signs {MACROS}", columns, tuple(rows))
    for narrow in (False, True):
        log = compiled(tmp_path, to_latex(table, "all", narrow=narrow))
        assert "Missing character" not in log and "Overfull" not in log
