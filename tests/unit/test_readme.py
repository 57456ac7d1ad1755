"""The README: its links exist, and each of its commands is run or excepted."""

from __future__ import annotations

import re

import pytest
from readme import NOT_RUN, ROOT, TEXT, blocks, commands, links


@pytest.mark.parametrize("target", sorted(set(links())))
def test_what_it_links_to_exists(target: str) -> None:
    assert (ROOT / target.split("#")[0]).exists()


def test_every_block_is_found_and_what_is_not_run_is_printed() -> None:
    assert 2 * len(blocks()) == TEXT.count("```")
    # tests/drills/test_readme_commands.py runs what is a command or Python.
    assert {language for language, _ in blocks()} == {"", "python"}
    assert set(NOT_RUN) <= set(commands())


def test_it_puts_passt_bench_on_the_path_before_it_is_needed() -> None:
    given = commands()
    first = next(n for n, command in enumerate(given) if command.startswith("passt-bench"))
    assert "source .nox/passt-bench/bin/activate" in given[:first]


def test_its_table_says_what_the_page_of_the_quick_study_says() -> None:
    page = (ROOT / "reports/quick/tables/verdicts.md").read_text(encoding="utf-8")
    titles, _, *lines = [line for line in page.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in titles.strip("|").split("|")]
    verdicts = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        verdicts[cells[0]] = dict(zip(columns, cells, strict=True))
    head, _, *rows = re.findall(
        r"^\| against no patchout .*?(?=\n\n)", TEXT, flags=re.DOTALL | re.MULTILINE
    )[0].splitlines()
    assert f"(mAP {verdicts['none']['mAP'].split()[0]})" in head
    assert len(rows) == 7
    for row in rows:
        name, tokens, difference, verdict, step, _ = [
            cell.strip() for cell in row.strip("|").split("|")
        ]
        of = verdicts[name.removesuffix(" instead of 8")]
        (ratio,) = (cell for title, cell in of.items() if title.startswith("step "))
        assert (difference, verdict, step) == (of["difference"], of["verdict"], ratio)
        assert tokens.startswith(f"{of['tokens']} of ")
