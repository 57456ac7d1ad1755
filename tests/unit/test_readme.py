"""The README: its tables are those of the reports, and each command is run or excepted."""

from __future__ import annotations

import re

from readme import NOT_RUN, ROOT, TEXT, blocks, commands


def test_every_block_is_found_and_what_is_not_run_is_printed() -> None:
    assert 2 * len(blocks()) == TEXT.count("```")
    # tests/drills/test_readme_commands.py runs what is a command or Python.
    assert {language for language, _ in blocks()} == {"", "python"}
    assert set(NOT_RUN) <= set(commands())


def test_it_puts_passt_bench_on_the_path_before_it_is_needed() -> None:
    given = commands()
    first = next(n for n, command in enumerate(given) if command.startswith("passt-bench"))
    assert "source .nox/passt-bench/bin/activate" in given[:first]


def rows(path: str) -> list[list[str]]:
    """The cells of a table of the committed reports, its titles first."""
    lines = (ROOT / "reports" / path).read_text(encoding="utf-8").splitlines()
    return cells([line for line in lines if line.startswith("|")])


def cells(lines: list[str]) -> list[list[str]]:
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [split[0], *split[2:]]  # without the rule below the titles


def shown(title: str) -> list[list[str]]:
    """The cells of the README's table whose titles begin so."""
    found = re.findall(rf"^\| {title}.*?(?=\n\n)", TEXT, flags=re.DOTALL | re.MULTILINE)
    return cells(found[0].splitlines())


def test_its_table_says_what_the_page_of_the_quick_study_says() -> None:
    titles, *found = rows("quick/tables/verdicts.md")
    verdicts = {row[0]: dict(zip(titles, row, strict=True)) for row in found}
    head, *lines = shown("against no patchout")
    assert f"(mAP {verdicts['none']['mAP'].split()[0]})" in head[0]
    assert [row[0] for row in lines] == list(verdicts)[1:-1]  # all but the baseline and the CNN
    for name, tokens, difference, verdict, step, whole, _ in lines:
        of = verdicts[name]
        costs = of["step / baseline"], of["training / baseline"]
        assert (difference, verdict, step, whole) == (of["difference"], of["verdict"], *costs)
        assert tokens.startswith(f"{of['tokens']} of ")


def test_its_first_table_says_what_the_page_of_esc50_patchout_says() -> None:
    titles, *found = rows("esc50_patchout/tables/verdicts.md")
    epochs = {row[0]: row[4] for row in rows("esc50_patchout/tables/quality.md")}
    _, *lines = shown("ESC-50")
    assert [line[0] for line in lines] == [row[0] for row in found]
    for line, row in zip(lines, found, strict=True):
        of = dict(zip(titles, row, strict=True))
        assert float(line[1]) == float(epochs[line[0]])
        assert line[2:5] == [of["mAP"], of["difference"], of["verdict"]]
        assert line[5:] == [of["step / baseline"], of["training / baseline"]]


def test_its_second_table_says_what_the_page_of_equal_cost_says() -> None:
    def named(table: str) -> list[dict[str, str]]:
        titles, *found = rows(f"equal_cost/tables/{table}.md")
        return [dict(zip(titles, row, strict=True)) for row in found]

    means = {row["variant"]: row["mAP"] for row in named("verdicts")}
    contrasts = {(row["family"], row["contrast"]): row for row in named("contrasts")}
    half = "half of the patches dropped, at equal"
    _, *lines = shown("budget \\(FLOPs\\)")
    assert len(lines) == 4
    for budget, value, gain, verdict, loss, other in lines:
        name = budget.split(",")[0]
        last = ", largest budget (primary)" * (name == "8x")
        flops, epochs = contrasts[f"{half} FLOPs{last}", name], contrasts[f"{half} epochs", name]
        assert means[f"none, {name}"].startswith(f"{value} ")
        assert (gain, verdict) == (flops["difference"], flops["verdict"])
        assert (loss, other) == (epochs["difference"], epochs["verdict"])
