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
    assert "Is &lt;b&gt; newer?" in text and "Each page answers one question" in text
    path.write_text(json.dumps(summary | {"finished": "2020-12-24", "study": "equal_cost"}))
    main = render_index(tmp_path).read_text(encoding="utf-8")
    assert main.index('href="b/index.html"') < main.index('href="a/index.html"')
    assert "2026-12-24" in text and "3 variants" in text and "baseline none" in text
    assert summary["headline"] in text
    assert "paper/index.html" not in text and "#search" not in text
    (tmp_path / "a" / "search").mkdir()
    (tmp_path / "a" / "search" / f"{summary['study']}.json").touch()
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "index.html").touch()
    text = render_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="a/index.html#search"' in text and 'href="paper/index.html"' in text


@pytest.mark.parametrize("text", ["{", "{}"])
def test_a_broken_summary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        render_index(tmp_path)
    assert refused.value.source == tmp_path / "x" / "summary.json"
