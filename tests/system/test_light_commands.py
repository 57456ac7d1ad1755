"""Help, lists, reports and the status of a recorded study import no heavy library."""

from dataclasses import replace
from pathlib import Path

from commands import python
from planned_study import planned, write

COMMANDS = """
import sys
import typer
from passt_bench.cli import app

assert not sys.modules.keys() & {"pydantic", "numpy"}

def helps(command, words):
    yield [*words, "--help"]
    for name, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, [*words, name])

heavy = ["torch", "torchaudio", "mlflow", "optuna", "sklearn"]
quick = [["list", "studies"], ["status", "tiny.py"], ["status", "tiny.py", "--variant", "time"]]
quick += [["status"], ["show"], ["status", "mine"]]
for words in [*helps(typer.main.get_command(app), []), *quick]:
    app(words, standalone_mode=False)
    found = [name for name in [*heavy, "matplotlib"] if name in sys.modules]
    assert not found, (words, found)
wrong = ["plan", "tinny"], ["status", "tinny"], ["run", "tiny.py", "--set", "trainin.epochs=3"]
for words in wrong:
    try:
        app(words, standalone_mode=False)
    except ValueError as error:
        print(error)
    assert "torch" not in sys.modules
for words in (["report", "tiny"], ["report"]):
    app(words, standalone_mode=False)
    found = [name for name in heavy if name in sys.modules]
    assert not found, (words, found)
"""


def test_commands_that_compute_nothing_load_nothing_heavy(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(study_file.read_text())
    plan = planned(study_file, tmp_path / "runs")
    store = write(tmp_path / "runs", plan, slice(-1))
    store.write_study(replace(plan.record, name="mine", variants=plan.record.variants[:1]))
    said = python(["-c", COMMANDS], tmp_path)
    assert "3 variants x 2 seeds = 6 runs, 5 done, 1 missing." in said
    assert "2 of 3 variants x 2 seeds = 4 runs" in said and "no such study" in said
    assert said.count("5 of 6 ") == 2 and "passt-bench show NAME" in said
    assert "Did you mean 'tiny'? On record in runs: mine, tiny. Study files: " in said
    assert said.count("For the rest: passt-bench run") == 2
    assert "mine: 1 variant x 2 seeds = 2 runs, all done.\n" in said  # nothing about its cost
    assert "The cost of 3 variants is not measured yet." in said and "unknown field" in said
