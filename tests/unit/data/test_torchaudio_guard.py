"""torchaudio works where its compiled extension is broken."""

from __future__ import annotations

import subprocess
import sys
import textwrap

BROKEN = textwrap.dedent(
    """
    import importlib.abc, sys

    class Break(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "torchaudio._extension":
                raise RuntimeError("built for another torch")

    sys.meta_path.insert(0, Break())
    import torch
    from passt_bench.torchaudio_guard import kaldi, resample, torchaudio
    assert resample(torch.ones(1, 400), 44100, 16000).shape == (1, 146)
    assert kaldi.get_mel_banks(8, 512, 16000, 0.0, 7500.0, 100.0, -500.0, 1.0)[0].shape == (8, 256)
    assert torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE is False
    """
)


def test_a_broken_extension_is_passed_by() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
