"""Installs the package from its sources into folders and environments of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from passt_bench import __version__

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("passt_bench", "ablations", "pyproject.toml", "README.md", "LICENSE")


def install(root: Path, target: Path, version: str = __version__) -> Path:
    """Installs the package into a folder, without a network, perhaps as of another version."""
    source = root / "source"
    source.mkdir(parents=True)
    for name in BUILT_FROM:  # a copy, for setuptools leaves a build folder
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    project = source / "pyproject.toml"
    stated = f'version = "{__version__}"\n'
    assert project.read_text().count(stated) == 1
    project.write_text(project.read_text().replace(stated, f'version = "{version}"\n'))
    words = "--disable-pip-version-check install -q --no-deps --no-index --no-build-isolation"
    pip = [sys.executable, "-m", "pip", *words.split(), "--target", str(target), str(source)]
    subprocess.run(pip, check=True)
    shutil.rmtree(source)
    return target


def make_environment(root: Path, version: str = __version__) -> Path:
    """Makes an environment with the package installed in it; its Python.

    Libraries come from the environment of the tests: a copy of PyTorch takes 1.8 GB.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    (own,) = root.glob("lib/python*/site-packages")
    install(root, own, version)
    (own / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return root / "bin" / "python"
