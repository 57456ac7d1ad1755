"""The metric of CONTRIBUTING.md, as printed there, keeps the contract that is printed below it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_keeps_the_contract(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Add a metric")[1].split("\n## ")[0]
    metric, test = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    (tmp_path / "test_it.py").write_text(f"{metric}\n\n{test}", encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
