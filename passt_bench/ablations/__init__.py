"""Controlled studies, one file each; a file's docstring is its study description.

In a checkout the files are in the folder ``ablations/`` next to the package. An installed package
has them here, instead of this file (``package-dir`` in ``pyproject.toml``).
"""

from pathlib import Path

__path__.append(str(Path(__file__).parents[2] / "ablations"))
