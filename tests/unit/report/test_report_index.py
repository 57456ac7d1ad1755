import json
import shutil
from pathlib import Path

import pytest

from passt_bench.errors import InputError
from passt_bench.report.build import render_index


def test_every_study_is_linked_the_newest_first(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "a")
    shutil.copytree(small, tmp_path / "b")
    path = tmp_path / "b" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(summary | {"finished": "2026-12-24", "question": "Is <b> newer?"}))
    text = render_index(tmp_path).read_text(encoding="utf-8")
    assert text.index('href="b/index.html"') < text.index('href="a/index.html"')
    assert "Is &lt;b&gt; newer?" in text
    assert "2026-12-24" in text and "3 variants" in text and "baseline none" in text
    assert summary["headline"] in text
    assert "paper/index.html" not in text
    assert render_index(tmp_path).read_text(encoding="utf-8") == text


def test_a_search_is_linked_beside_its_confirmation(small: Path, tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    summary = (small / "summary.json").read_text(encoding="utf-8")
    (tmp_path / "quick" / "summary.json").write_text(summary, encoding="utf-8")
    assert "search.html" not in render_index(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "quick" / "search.html").write_text("", encoding="utf-8")
    assert 'href="quick/search.html"' in render_index(tmp_path).read_text(encoding="utf-8")


def test_the_paper_is_linked_where_it_was_rendered(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "index.html").write_text("", encoding="utf-8")
    text = render_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="paper/index.html"' in text
    assert "No study has been rendered yet." in text


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_broken_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"summary\.json"):
        render_index(tmp_path)
