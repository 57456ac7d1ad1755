"""Bad input on the command line: file, field, value and remedy are named, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

Cli = Callable[..., tuple[int, str]]

HEAD = '''"""?"""
from passt_bench.ablations.recipes import synthetic
from passt_bench.spec import Patchout, Study, Variant
'''
TWO = 'variants=(Variant("a"), Variant("b", {"salt": 1}))'
BAD = f'STUDY = Study(name="bad", question="?", base=synthetic(), baseline="a", {TWO}'


def patchout(setting: str) -> str:
    """A study whose second variant, b, has that patchout on a grid of 8 by 8."""
    two = f'variants=(Variant("a"), Variant("b", {{"patchout": Patchout({setting})}}))'
    return f'{HEAD}STUDY = Study(name="bad", question="?", base=synthetic(), baseline="a", {two})'


# What is wrong → (text of bad.py, what the message must hold).
FILES = {
    "rate that leaves nothing": (
        patchout("'unstructured', rate=0.999"),
        ("bad: b", "patchout.rate = 0.999", "leaves no patches of the 8 x 8 grid", "Drop less"),
    ),
    "rate beyond one": (
        patchout("'time', rate=1.5"),
        ("bad: b", "patchout.rate = 1.5", "less than 1", "Share of the patch grid"),
    ),
    "all columns": (
        patchout("'time', time=8"),
        ("bad: b", "patchout.time = 8", "leaves no patches", "Drop less"),
    ),
    "more columns than there are": (
        patchout("'structured', time=9, frequency=2"),
        ("bad: b", "patchout.time = 9", "more than the 8 there are", "at most 7"),
    ),
    "more rows than there are": (
        patchout("'frequency', frequency=9"),
        ("bad: b", "patchout.frequency = 9", "more than the 8 there are", "at most 7"),
    ),
    "more patches than there are": (
        patchout("'unstructured', patches=65"),
        ("bad: b", "patchout.patches = 65", "more than the 64 there are", "at most 63"),
    ),
    "unknown kind": (
        patchout("'diagonal'"),
        ("bad: b", "'diagonal'", "unknown patchout kind", "Known: block, frequency"),
    ),
    "unknown field of a variant": (
        HEAD + BAD.replace('"salt"', '"model.nam"') + ")",
        ("bad: b", "model.nam = 1", "unknown field", "Did you mean 'name'?"),
    ),
    "unknown field of a study": (
        HEAD + BAD + ", qestion='?')",
        ("bad.py:4", "unexpected keyword argument 'qestion'", "Fix the file"),
    ),
    "seeds that are no numbers": (
        HEAD + BAD + ", seeds=('a',))",
        ("bad", "seeds = ('a',)", "whole numbers", "seeds=(0, 1, 2)"),
    ),
    "folds of data without": (
        HEAD + BAD + ", folds=(1, 2))",
        ("bad", "folds = (1, 2)", "no folds", "Leave it out"),
    ),
    "import of what is not there": (
        "import json\n\nimport nothing_there\n",
        ("bad.py:3", "ModuleNotFoundError: No module named 'nothing_there'", "Fix the file"),
    ),
    "syntax": ("x = 1\ny = (\n", ("bad.py:2", "SyntaxError", "never closed", "Fix the file")),
    "no text": ("\0", ("bad.py", "SyntaxError", "null bytes", "Fix the file")),
    "exception deep within": (
        "def f():\n    return 1 / 0\n\n\nf()\n",
        ("bad.py:2", "ZeroDivisionError", "Fix the file"),
    ),
    "exit": ("import sys\nsys.exit(0)\n", ("bad.py:2", "SystemExit: 0", "Fix the file")),
    "wrong value at import": (
        HEAD + "from passt_bench.spec import override\noverride(synthetic(), {'salt': -1})\n",
        ("bad.py:5", "salt = -1", "greater than or equal to 0", "Fix the file"),
    ),
    "no study in it": ("x = 1\n", ("bad.py", "STUDY", "defines no Study", "ablations/quick.py")),
    "named otherwise": (
        HEAD + BAD.replace('"bad"', '"good"') + ")",
        ("bad.py", "name = 'good'", "named as its file", "name='bad'"),
    ),
}


@pytest.mark.parametrize("wrong", FILES)
def test_a_bad_study_file(wrong: str, cli: Cli, tmp_path: Path) -> None:
    text, fragments = FILES[wrong]
    file = tmp_path / "bad.py"
    file.write_text(text)
    code, said = cli("plan", file, "--runs", tmp_path / "runs")
    assert code == 2
    assert "Traceback" not in said
    for fragment in fragments:
        assert fragment in said
    assert not (tmp_path / "runs").exists()


# What is wrong → (command, what the message must hold); STUDY is a good study file.
COMMANDS = {
    "study": ("plan quik", ("STUDY = 'quik'", "no such study", "Did you mean 'quick'?")),
    "study file": ("plan no.py", ("STUDY = 'no.py'", "no such file", "Give the path")),
    "report": ("report quik", ("study = 'quik'", "no such study was run here", "Known")),
    "field": (
        "plan STUDY --set training.epoch=3",
        ("--set", "training.epoch = 3", "unknown field", "Did you mean 'epochs'?"),
    ),
    "part": (
        "plan STUDY --set trainin.epochs=3",
        ("--set", "trainin.epochs = 3", "unknown field", "Did you mean 'training'?"),
    ),
    "field of a value": (
        "plan STUDY --set salt.x=3",
        ("--set", "salt.x = 3", "no fields of its own", "Set salt itself"),
    ),
    "model": (
        "plan STUDY --set model.name=passt_micr",
        ("tiny: none", "'passt_micr'", "unknown model", "Did you mean 'passt_micro'?"),
    ),
    "kind": (
        "plan STUDY --set patchout.kind=tim",
        ("tiny: none", "'tim'", "unknown patchout kind", "Did you mean 'time'?"),
    ),
    "data set": (
        "plan STUDY --set data.name=audiosett",
        ("tiny: none", "'audiosett'", "unknown data set", "mean 'audioset'", "esc50, fsd50k"),
    ),
    "assignment": (
        "plan STUDY --set training.epochs",
        ("--set", "training.epochs", "not an assignment", "--set training.epochs=3"),
    ),
    "no name": ("plan STUDY --set =3", ("--set", "'=3'", "not an assignment", "Write field=value")),
    "word for a number": (
        "plan STUDY --set training.epochs=many",
        ("--set", "training.epochs = 'many'", "valid integer", "Passes over"),
    ),
    "not a number": (
        "plan STUDY --set training.epochs=NaN",
        ("--set", "training.epochs = nan", "finite number", "Passes over"),
    ),
    "infinity": (
        "plan STUDY --set training.learning_rate=Infinity",
        ("--set", "training.learning_rate = inf", "not a finite number", "Give a finite"),
    ),
    "out of range": (
        "plan STUDY --set training.epochs=0",
        ("--set", "training.epochs = 0", "greater than 0", "Passes over"),
    ),
    "broken JSON": (
        "plan STUDY --set model.stride=[6",
        ("--set", "model.stride = '[6'", "valid tuple", "Patch stride"),
    ),
    "data without folder": (
        "plan STUDY --data esc50",
        ("--data = 'esc50'", "not NAME=DIR", "esc50=/data/ESC-50"),
    ),
    "data of no name": (
        "plan STUDY --data esc51=/data",
        ("'esc51'", "unknown data set", "Did you mean 'esc50'?"),
    ),
    "data that need none": (
        "plan STUDY --data synthetic=/data",
        ("--data synthetic = '/data'", "procedural", "Leave it out"),
    ),
    "seeds": ("plan STUDY --seeds 0", ("--seeds = 0", "at least one seed", "1 or more")),
    "folds": ("plan STUDY --folds 2", ("--folds = 2", "no folds", "Leave it out")),
    "device": ("plan STUDY --device tpu", ("engine.device = 'tpu'", "'cpu' or 'cuda'")),
    "name": ("plan STUDY --name a/b", ("--name = 'a/b'", "letters, digits")),
    "workers": ("run STUDY --workers 0", ("--workers = 0", "above 0", "larger")),
    "fewer workers": ("run STUDY --workers -2", ("--workers = -2", "above 0", "larger")),
    "timeout": ("run STUDY --run-timeout 0", ("--run-timeout = 0", "above 0", "larger")),
    "no memory": ("run STUDY --memory 0", ("--memory = 0", "above 0", "larger")),
    "endless memory": ("run STUDY --memory inf", ("--memory = inf", "GiB")),
    "retry": ("run STUDY --retry bogus", ("--retry = 'bogus'", "no such status", "Known: oom")),
    "option": ("run STUDY --nonsense", ()),
    "list": ("list nothing", ("list = 'nothing'", "nothing of that kind", "Known: ")),
    "out is a file": (
        "status STUDY --runs STUDY",
        ("tiny.py", "--runs", "a file, not a folder", "Give a folder"),
    ),
    "out below a file": (
        "run STUDY --runs STUDY/runs",
        ("tiny.py", "--runs", "a file, not a folder", "Give a folder"),
    ),
}


@pytest.mark.parametrize("wrong", COMMANDS)
def test_a_bad_command(
    wrong: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, fragments = COMMANDS[wrong]
    file = tiny.write(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, said = cli(*line.replace("STUDY", str(file)).split())
    assert code == 2
    for fragment in fragments:
        assert fragment in said
    assert not list((tmp_path / "here").iterdir())
    assert file.read_text() == tiny.TEXT
