"""Text of others is shown as text: by terminals, spreadsheets, browsers, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fixtures import Cli, Mistake
from small_model import write_model
from study_on_disk import SMALL, write_study

from passt_bench.console import csv_text, plain_console, stage, visible
from passt_bench.errors import InputError, without_folders
from passt_bench.registry import Registry
from passt_bench.report.build import render_index
from passt_bench.report.files import SUMMARY, write_text
from passt_bench.report.tables import Column, table, to_csv, to_latex, to_markdown
from passt_bench.runner.predict import Prediction, as_csv, as_json
from passt_bench.spec.key import plain_name

NAMES = (
    "=HYPERLINK(1)",
    "rate [/bold]0.5",
    "red \x1b[31m\x9b2J\u202e",
    "![see](http://elsewhere/x) [x][y]",
    "</td><script>alert(1)</script>",
    r"\input{/etc/passwd} $%&#_^~ *",
)


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-2+3+cmd", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_a_formula_follows_a_quote(text: str) -> None:
    assert csv_text(text) == f"'{text}"


@pytest.mark.parametrize(
    "text",
    ["-0.037", "+0.1", "−0.037 [−0.05, −0.01]", "-0.037 [-0.05, -0.01]", "-1e-3", "-", "a"],
)
def test_numbers_and_other_text_stay(text: str) -> None:
    assert csv_text(text) == text


def test_in_tables_and_predictions(tmp_path: Path) -> None:
    names = [Column("=m", "name"), Column("x", "x", str)]
    made = table("t", "![caption](http://elsewhere)", names, [(name, -0.5) for name in NAMES])
    rows = list(csv.reader(io.StringIO(to_csv(made))))
    assert rows[0][0] == "'=m" and rows[1] == ["'=HYPERLINK(1)", "-0.5"]
    assert [row[0] for row in rows[2:]] == list(NAMES[1:])
    shown = to_markdown(made)
    assert "](" not in shown and "http://" not in shown and "\\<script" in shown
    assert "\x1b" not in shown and "\\input{" not in to_latex(made, "x")
    found = [Prediction("@file", 1.0, probabilities=(("=class", 0.5),))]
    assert next(csv.DictReader(as_csv(found, None))) == {
        "file": "'@file", "seconds": "1", "windows": "0", "rank": "1", "class": "'=class",
        "probability": "0.5",
    }  # fmt: skip
    assert json.loads("".join(as_json(found, None)))[0]["file"] == "@file"  # data for programs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose variants have such names."""
    root = tmp_path_factory.mktemp("texts") / "runs"
    store = write_study(root, SMALL[:2], seeds=range(3), rich=False)
    study = store.study("quick")
    first, second = study.variants
    names = (NAMES[0], NAMES[1] + NAMES[2], "".join(NAMES[3:]))  # each variant takes its time
    many = [replace(second, name=name) for name in names]
    store.write_study(replace(study, variants=(first, *many), contrasts={}))
    return root


def test_every_command_shows_the_names_of_a_study(runs: Path, cli: Cli, tmp_path: Path) -> None:
    pages = ("--reports", tmp_path)
    for command, more in {"show": pages, "status": (), "report": pages}.items():
        code, said = cli(command, "quick", "--runs", runs, *more)
        assert code == 0, said
        assert not any(sign in said for sign in "\x1b\x9b\u202e")
        assert command != "show" or ("[/bold]0.5" in said and r"\x1b[31m" in said)
    page = (tmp_path / "quick" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and 'href="http' not in page
    sheets = {
        place: [*(tmp_path / "quick" / place).glob("*.csv")] for place in ("tables", "figures")
    }
    texts = {place: "".join(path.read_text() for path in found) for place, found in sheets.items()}
    assert "'=HYPERLINK" in texts["tables"] and "\n=HYPERLINK" not in texts["tables"]
    assert "\n=HYPERLINK" in texts["figures"]  # data for programs


def test_the_index_links_into_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "javascript:alert(1)#"
    fields = ("study", "dataset", "variants", "baseline", "finished", "question", "headline")
    write_text(folder / SUMMARY, json.dumps(dict.fromkeys(fields, "x")))
    text = render_index(tmp_path).read_text(encoding="utf-8")
    assert 'href="javascript%3Aalert%281%29%23/index.html"' in text


@pytest.mark.parametrize("form", ["csv", "json"])
def test_data_are_printed_as_they_are_but_on_a_terminal(
    form: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, model = tmp_path / "a\x07\u202e\x1b[31m.wav", write_model(tmp_path / "m", ["a", "b"])
    soundfile.write(audio, np.zeros(4000), 8000)
    given = ("predict", audio, "--checkpoint", model, "--format", form)
    code, said = cli(*given)
    name = f"{audio}," if form == "csv" else json.dumps(str(audio), ensure_ascii=False)
    assert code == 0 and name in said
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, said = cli(*given)
    assert code == 0 and visible(name) in said


def test_progress_of_a_name_with_marks(capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (True, False):
        out = io.StringIO()
        with stage(plain_console(file=out, force_terminal=terminal), NAMES[1]) as update:
            update(0.5, NAMES[1] + NAMES[2])
        assert NAMES[1] in out.getvalue() and "\x9b" not in out.getvalue()
    assert visible("a\tb\nc\x07\u2066") == "a\tb\nc\\x07\\u2066"


def test_paths_of_this_machine_are_not_recorded() -> None:
    said = 'File "/opt/x/site-packages/torch/a.py"\n/home/me/a b.wav: bad, see https://host/x/y 1/2'
    assert without_folders(said) == ('File "torch/a.py"\na b.wav: bad, see https://host/x/y 1/2')


@pytest.mark.parametrize("name", ["x" * 300, "é" * 101, "paper", "evaluations"])
def test_names_that_are_too_long_or_taken(name: str, mistake: Mistake, tmp_path: Path) -> None:
    error = mistake("run", "quick", "--name", name, "--runs", tmp_path / "runs")
    assert (error.field, error.value) == ("--name", name)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError):
        plain_name(name, field="name")


def test_a_plug_in_that_exits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        group, name, value = "passt_bench.model", "leaves", "leaves:now"

        def load(self) -> None:
            raise SystemExit(0)

    monkeypatch.setattr("passt_bench.registry.entry_points", lambda group: [Entry()])
    with pytest.raises(InputError) as caught:
        Registry[object]("x", "errors", "model", "x").all()
    assert (caught.value.field, caught.value.value) == ("leaves", "leaves:now")


@pytest.mark.parametrize("status", [None, 0, 1])
def test_a_plug_in_that_ends_the_program_is_named(
    status: int | None, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setattr("passt_bench.report.build.load", lambda *given: sys.exit(status))
    code, said = cli("show", "quick")
    assert code == 2 and said.startswith(f"error: {__file__}:") and "plug-in ended" in said


def test_a_long_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    from passt_bench import processes

    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "long/" * 30)
    with pytest.raises(InputError) as caught:
        processes.fork_server()
    assert caught.value.field == "TMPDIR"


def test_a_read_only_folder_is_refused_before_anything_is_computed(
    runs: Path, mistake: Mistake, cli: Cli, tmp_path: Path
) -> None:
    home = tmp_path / "ro"
    shutil.copytree(runs, home / "runs")
    for words in (["--bind", home, home], ["-o", "remount,bind,ro", home]):
        if subprocess.run(["mount", *map(str, words)], check=False, capture_output=True).returncode:
            pytest.skip("may not mount")
    try:
        for words in ("search quick", "compare passt_s cnn14", "sync", "run quick"):
            error = mistake(*words.split(), "--runs", home / "runs")
            assert (error.source, error.field) == (home / "runs", "--runs")
        code, said = cli("report", "quick", "--runs", home / "runs")
        assert code == 2 and "cannot be" in said and str(home) in said
        assert cli("show", "quick", "--runs", home / "runs")[0] == 0
    finally:
        subprocess.run(["umount", str(home)], check=False)
