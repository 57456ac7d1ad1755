"""The golden files of the first edition, as JSON: how they are read, compared and made anew.

    python tests/golden/guards.py [keys] [records] [fingerprints] [sounds]

makes those files anew (README.md says what is in them). Look at the difference before committing
it: a value changes only in the commit that names the cause.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return content


def write(name: str, content: dict[str, Any]) -> None:
    """Sorted, one entry a line, so that a difference can be looked at."""
    about = f'"about": "See README.md; made by: python tests/golden/guards.py {name}"'
    parts = [f"{_line(key)}: {_lines(content[key])}" for key in sorted(content) if key != "about"]
    text = ",\n".join([about, *parts])
    (HERE / f"{name}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def _lines(part: Any) -> str:
    if isinstance(part, list):
        return "[\n" + ",\n".join(map(_line, part)) + "\n]"
    return "{\n" + ",\n".join(f"{_line(key)}: {_line(part[key])}" for key in sorted(part)) + "\n}"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def changed(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Name → (what is found, what is wanted), of all that is not the same."""
    found = json.loads(json.dumps(found))  # tuples are lists in a file
    return {
        name: (found.get(name), wanted.get(name))
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    }


def main(names: list[str]) -> None:
    sys.path.insert(0, str(HERE.parent / "helpers"))
    import golden_fingerprints
    import golden_recipes
    import golden_records
    import golden_sounds

    with tempfile.TemporaryDirectory() as folder:
        makers = {
            "keys": golden_recipes.made,
            "records": golden_records.made,
            "fingerprints": lambda: golden_fingerprints.made(Path(folder) / "data"),
            "sounds": lambda: golden_sounds.made(Path(folder)),
        }
        for name in names or makers:
            write(name, makers[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
