"""The how-to of docs/data.md, as printed there: a manifest, its check, a study, a prediction."""

import csv
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from fixtures import Cli
from sounds import sound, write_sound

from passt_bench.records.store import Store

DOCS = Path(__file__).parents[2] / "docs"
# One seed and no costs: what is proven is that the commands fit together.
BRIEF = ("--seeds", "1", "--no-cost", "--no-track", "--workers", "1")


def blocks(kind: str) -> list[str]:
    """Blocks of that language under "Your own recordings"."""
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    section = text.split("## Your own recordings")[1].split("\n## ")[0]
    return re.findall(rf"```{kind}\n(.*?)```", section, flags=re.DOTALL)


@pytest.fixture
def marsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the example, its files as long as the manifest says, and its study."""
    (manifest,), (study,) = blocks("csv"), blocks("python")
    root = tmp_path / "marsh"
    root.mkdir()
    (root / "manifest.csv").write_text(manifest, encoding="utf-8")
    (tmp_path / "marsh.py").write_text(study, encoding="utf-8")
    lengths: dict[str, float] = {}
    for row in csv.DictReader(manifest.splitlines()):
        lengths[row["path"]] = max(lengths.get(row["path"], 0.0), float(row["end"] or 2))
    for number, (path, seconds) in enumerate(lengths.items()):
        rate = (44100, 16000, 32000)[number % 3]
        write_sound(root / path, sound(number, seconds, rate, 1 + number % 2), rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_how_to_works(marsh: Path, cli: Cli) -> None:
    said: list[str] = []
    for line in "".join(blocks("bash")).splitlines():
        first, *words = shlex.split(line)
        assert first == "passt-bench"
        chosen = ("--set", "training.checkpoint_selection=best_on_validation") * ("tuned" in words)
        code, told = cli(*words, *{"run": BRIEF, "train": BRIEF[3:]}.get(words[0], ()), *chosen)
        assert code == 0, f"{line}\n{told}"
        said.append(told)
    check, _, trained, of_dusk, tuned, plan, _, evaluated, predicted, *others = said
    prepared, of_prepared, _ = others
    assert "No problems found" in check
    assert "12 of 12 clips" in check
    assert json.loads((marsh / "marsh-check.json").read_text())["clean"]
    assert "frequency" in plan
    assert "accuracy" in trained  # one label per clip
    assert ("heron" in of_dusk, "tuned:passt_micro:0" in tuned) == (True, True)
    for name, choice, text, note in (  # one validation clip of each class is too few
        ("train-passt_micro-marsh", "last", trained, "The epoch is the last one"),
        ("tuned", "best_on_validation", tuned, "The epoch is chosen largely by chance"),
    ):
        recipe = Store(marsh / "runs").study(name).variants[0].recipe
        assert (recipe.training.loss, recipe.training.checkpoint_selection) == ("ce", choice)
        assert text.count(note) == 1 and note in text.split("Models for predict")[1]  # at the end
    assert (recipe.init.source, recipe.training.learning_rate) == ("checkpoint", 1e-4)
    assert "3 clips of marsh, test" in evaluated
    assert "heron" in predicted
    assert "12 clips" in prepared
    assert "32000 Hz (12 clips)" in of_prepared
    assert (marsh / "runs" / "reports" / "marsh" / "index.html").is_file()
    texts = [path.read_text() for path in marsh.glob("runs/records/*/record.json")]
    assert {json.loads(text)["fingerprint"].get("folder") for text in texts} == {"marsh"}
    assert str(marsh) not in "".join(texts)
    trained = [found for found in map(json.loads, texts) if "recipe" in found]
    assert [found["status"] for found in trained] == ["ok"] * 8
    digests = Counter(found["fingerprint"]["digest"] for found in trained)
    assert sorted(digests.values()) == [3, 5]  # prepared clips, recordings
