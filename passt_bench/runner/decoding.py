"""The processes that decode clips for a preparation."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

import torch

from passt_bench.data.dataset import Dataset
from passt_bench.data.hdf5_file import encode_mp3
from passt_bench.data.prepared import scaled
from passt_bench.errors import InputError
from passt_bench.runner.flat_file import Entry
from passt_bench.training.loaders import end_with_parent

Form = Literal["int16", "hdf5"]


@dataclass(frozen=True)
class _Work:
    """What a process does with each clip."""

    source: Dataset
    form: Form
    sampling_rate: int
    most: int | None  # samples that are kept of a clip


_work: _Work | None = None  # of this process, which decodes


def begin(source: Dataset, form: Form, sampling_rate: int, seconds: float | None) -> None:
    """The beginning of a process that decodes."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    end_with_parent()
    torch.set_num_threads(1)
    most = None if seconds is None else round(seconds * sampling_rate)
    _work = _Work(source, form, sampling_rate, most)


def make_part(numbers: range) -> tuple[bytes, Entry]:
    """The bytes of some clips, one after the other, and what is to be said of them."""
    assert _work is not None
    found, sizes = [], []
    clipped: dict[int, int] = {}
    lost: dict[int, str] = {}
    cut = samples = 0
    for place, number in enumerate(numbers):
        data = b""
        try:
            wave = _work.source.whole(number)
        except InputError as error:
            lost[place] = error.problem
        else:
            most = _work.most
            cut += most is not None and len(wave) > most
            stored, beyond = scaled(wave[:most])
            samples += len(stored)
            if beyond:
                clipped[place] = beyond
            as_int16 = _work.form == "int16"
            data = stored.tobytes() if as_int16 else encode_mp3(stored, _work.sampling_rate)
        found.append(data)
        sizes.append(len(data))
    return b"".join(found), Entry(sizes, clipped, lost, cut, samples)
