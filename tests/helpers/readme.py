"""The code blocks of the README, and the commands that no test runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

STUDY = "trains a whole study for minutes or hours; the words after -- are planned instead"
_WEIGHTS = "needs a download of 330 MB"
# Command, without its comment, and why it takes more than 30 seconds or cannot be run here.
NOT_RUN = {
    "pip install nox && nox -s ablate": "installs 2 GB and trains the quick study for six minutes",
    "nox -s tests": "these are the tests",
    "nox -s ablate -- patchout_rate": STUDY,
    "nox -s ablate -- quick --set training.epochs=20": STUDY,
    "nox -s ablate -- patchout_type --data esc50=DIR": STUDY,
    "nox -s ablate -- pretrain_patchout --keep-models --data esc50=DIR": "trains for five minutes",
    "nox -s ablate -- finetune_patchout --set init.checkpoint=FILE --name NAME "
    "--data esc50=DIR": "needs the model of the command before",
    "passt-bench run patchout_type --set data.name=manifest --data manifest=DIR": STUDY,
    "nox -s ablate -- paper_table3_esc50 --data esc50=DIR": STUDY,
    "nox -s ablate -- stride.py": STUDY,
    "nox -s ablate -- quick --device cuda": "needs a GPU",
    "passt-bench weights get passt_s_swa_p16_128_ap476": _WEIGHTS,
    "passt-bench train --data manifest=DIR --from passt_s_swa_p16_128_ap476 --patchout "
    "structured:.5": _WEIGHTS,
    "passt-bench evaluate --checkpoint passt_s_swa_p16_128_ap476 --data audioset=DIR": _WEIGHTS,
    'passt-bench run quick --seeds 3 --set training.epochs=3 --variant "unstructured .5" '
    "--runs runs/try": "trains and measures for 40 seconds; tests/system/test_cli.py does for less",
    "nox -s search": "searches for five minutes; tests/drills/test_current_folder.py runs a search",
    "nox -s ui": "serves until it is stopped; tests/drills/test_current_folder.py opens the page",
    "passt-bench compare passt_s passt_s:stride=16 cnn14 --device cuda": "needs a GPU",
    "passt-bench compare passt_micro panns_micro --seconds 2": "measures for a minute; "
    "tests/drills/test_current_folder.py compares smaller ones",
}


def blocks() -> list[tuple[str, str]]:
    """The language, empty for commands, and the text of each block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The lines of all blocks of commands, without comments."""
    lines = [line for language, text in blocks() if not language for line in text.splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines]
