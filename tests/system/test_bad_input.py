"""Mistakes on the command line: the error names field and value, and nothing is written."""

from pathlib import Path

import pytest
import small_study
from fixtures import Mistake

HEAD = '''"""?"""
from ablations.recipes import synthetic
from passt_bench.spec import Patchout, Study, Variant
'''


def bad(variant: str = '{"salt": 1}', more: str = "") -> str:
    """A study whose second variant, b, has these changes on a grid of 8 by 8."""
    two = f'variants=(Variant("a"), Variant("b", {variant}))'
    return f'{HEAD}STUDY = Study("bad", "?", synthetic(), baseline="a", {two}{more})'


def patchout(setting: str) -> str:
    return bad(f'{{"patchout": Patchout({setting})}}')


# What is wrong → (text of bad.py, field and value of the error, what else the message must say).
FILES = {
    "rate that leaves nothing": (patchout("'unstructured', rate=0.999"), "patchout.rate", 0.999,
                                 "leaves no patches of the 8 x 8 grid"),
    "rate beyond one": (patchout("'time', rate=1.5"), "patchout.rate", 1.5, "less than 1"),
    "columns": (patchout("'structured', time=9, frequency=1"), "patchout.time", 9, "at most 7"),
    "kind": (patchout("'diagonal'"), "patchout kind", "diagonal", "Known: block, frequency"),
    "field of a variant": (bad('{"model.nam": 1}'), "model.nam", 1, "Known: depth, heads"),
    "seeds": (bad(more=", seeds=('a',)"), "seeds", ("a",), "seeds=(0, 1, 2)"),
    "folds of data without": (bad(more=", folds=(1, 2)"), "folds", (1, 2), "no folds"),
    "import": ("import json\n\nimport nothing_there\n", None, None, "bad.py:3"),
    "no text": ("\0", None, None, "null bytes"),
    "exception deep within": ("def f():\n    return 1 / 0\n\n\nf()\n", None, None, "bad.py:2"),
    "exit": ("import sys\nsys.exit(0)\n", None, None, "bad.py:2"),
    "wrong value at import": (
        HEAD + "from passt_bench.spec import override\noverride(synthetic(), {'salt': -1})\n",
        None, None, "bad.py:5"),
    "no study in it": ("x = 1\n", "STUDY", "NoneType", "ablations/quick.py"),
    "another name": (bad().replace('"bad"', '"good"'), "name", "good", "name='bad'"),
}  # fmt: skip

# A command, STUDY being a good study file; field and value of the error; what else it must say.
COMMANDS = [
    ("plan quik", "STUDY", "quik", "Did you mean 'quick'?"),
    ("plan no.py", "STUDY", "no.py", "no such file"),
    ("report", "--runs", None, "passt-bench run quick"),
    ("report quik", "study", "quik", "on record. Run it first: passt-bench run quik"),
    ("report evaluations", "study", "evaluations", "index.html, written by evaluate and report."),
    ("plan STUDY --data manifest=yard", "--data", "manifest", "add --set data.name=manifest"),
    ("list nothing", "WHAT", "nothing", "Known: "),
    ("plan STUDY --set training.epoch=3", "training.epoch", 3, "mean 'training.epochs'?"),
    ("plan STUDY --set data.name=audiosett", "data set", "audiosett", "mean 'audioset'"),
    ("plan STUDY --set training.epochs", "training.epochs", None, "no value given"),
    ("plan STUDY --set epochs=3", "epochs", 3, "Did you mean 'training.epochs'?"),
    ("plan STUDY --set training.learning_rate=Infinity", "training.learning_rate", float("inf"),
     "Give a finite number"),
    ("plan STUDY --set model.stride=6,6,6", "model.stride", "6,6,6", "a pair, e.g. 6 or 6,6"),
    ("plan STUDY --set patchout.kind=tme", "patchout kind", "tme", "--set: "),
    ("plan STUDY --data esc50", "--data", "esc50", "esc50=/data/ESC-50"),
    ("plan STUDY --data ..", "--data", "..", "Write manifest=.."),
    ("train --data ..", "--data", "..", "Write manifest=.."),
    ("train --data esk50", "data set", "esk50", "mean 'esc50'"),
    ("train --data manifest=gone", "manifest=DIR", None, "no such folder"),
    ("evaluate --data .. --checkpoint passt_s_swa_p16_128_ap476", "--data", "..", "manifest="),
    ("plan STUDY --data synthetic=/data", "--data synthetic", "/data", "Leave it out"),
    ("run patchout_type --data esc50=gone", "esc50=DIR", None, "no such folder"),
    ("plan STUDY --seeds 0", "--seeds", 0, "at least 1. Give 1 or more."),
    ("plan STUDY --folds 2", "--folds", 2, "Omit"),
    ("plan STUDY --device gpu", "--device", "gpu", "unknown device. Known: cpu, cuda"),
    ("plan STUDY --name a/b", "--name", "a/b", "letters, digits"),
    ("run STUDY --variant time.75", "--variant", "time.75", "Did you mean 'time'?"),
    ("status STUDY --variant none --no-baseline", "--variant", "none", "the baseline"),
    ("run STUDY --run-timeout 0", "--run-timeout", 0, "above 0"),
    ("run STUDY --memory inf", "--memory", float("inf"), "Give GiB"),
    ("run STUDY --retry oom,bogus", "--retry", "bogus", "Known: diverged"),
    ("predict a.wav --checkpoint x --device tpu", "--device", "tpu", "Known: cpu, cuda"),
    ("data check manifest=gone", "manifest", "gone", "no such file or folder"),
    ("status STUDY --runs STUDY", "--runs", "STUDY", "Give a folder"),
    ("run STUDY --runs STUDY/runs", "--runs", "STUDY/runs", "Give a folder"),
    *(
        (f"{command} --reports STUDY", "--reports", "STUDY", "Give a folder")
        for command in ("run STUDY", "search STUDY", "report", "compare passt_s cnn14")
    ),
    *(
        (f"{command} --runs gone", "--runs", "gone", "no such file or folder")
        for command in (
            "status STUDY", "report", "report tiny", "sync", "ui", "records diff a b",
            "records clean",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("wrong", FILES)
def test_a_bad_study_file(wrong: str, mistake: Mistake, tmp_path: Path) -> None:
    text, field, value, said = FILES[wrong]
    file = tmp_path / "bad.py"
    file.write_text(text)
    error = mistake("plan", file, "--runs", tmp_path / "runs")
    assert (error.field, error.value) == (field, value)
    assert said in str(error)
    assert error.remedy
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("line", "field", "value", "said"), COMMANDS)
def test_a_bad_command(
    line: str, field: str, value: object, said: str, mistake: Mistake, tmp_path: Path, monkeypatch:
    pytest.MonkeyPatch,
) -> None:  # fmt: skip
    small_study.write(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    error = mistake(*line.replace("STUDY", "../tiny.py").split())
    assert error.field == field
    assert value is None or error.value in (value, str(value).replace("STUDY", "../tiny.py"))
    assert said in str(error)
    assert error.remedy
    assert not list(here.iterdir())
    assert (tmp_path / "tiny.py").read_text() == small_study.text()
