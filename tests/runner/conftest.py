from __future__ import annotations

from pathlib import Path

import pytest
import tiny


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("study"))
