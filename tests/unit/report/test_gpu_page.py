"""The numbers in docs/gpu.md are those of its records."""

from gpu_table import ROOT, rows


def test_every_row_is_on_the_page() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    found = rows()
    assert len(found) == 5
    for row in found:
        assert f"| {row} |" in text, row
