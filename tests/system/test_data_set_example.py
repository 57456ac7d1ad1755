"""The data set that docs/adding.md adds is opened, found and checked."""

import re
from pathlib import Path

from commands import python
from sounds import sound, write_sound

ADDING = Path(__file__).parents[2] / "docs" / "adding.md"
USE = """
from passt_bench.data import find_folders, open_dataset
from passt_bench.data.check import check
from passt_bench.spec.recipe import DataSpec

root = TestMyData.root
data = open_dataset(DataSpec("my_data", seconds=0.5), 8000, root)
assert find_folders(root.parent) == {"my_data": root}
assert [list(part) for part in data.split(None)] == [[0, 1], [2]]
assert data.fingerprint.classes == ("x", "y")
assert check(data, lambda share, text: None, decode=True).found == 3
"""


def test_what_is_printed_works(tmp_path: Path) -> None:
    section = ADDING.read_text(encoding="utf-8").split("## Add a data set")[1]
    printed, checks = re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], flags=re.DOTALL)
    root = tmp_path / "clips"
    for seed, name in enumerate("abc"):
        write_sound(root / f"{name}.wav", sound(seed, 0.5, 8000), 8000)
    rows = "file,label,part\na.wav,x,train\nb.wav,y,train\nc.wav,x,test\n"
    (root / "clips.csv").write_text(rows, encoding="utf-8")
    # In a process of its own, so that the registration does not stay.
    (tmp_path / "test_my_data.py").write_text(f"{printed}\n{checks}\n{USE}", encoding="utf-8")
    python(["-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)
