"""What every data set gives: clips with targets, sources and folds; waveforms on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passt_bench.data.audio import Sound
from passt_bench.data.clip_table import Survey
from passt_bench.data.splits import limited
from passt_bench.data.targets import Targets
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec


class Incomplete(InputError):
    """A data set of which too much is lost to run anything on it.

    Attributes:
        dataset: what is left of it, to be looked at.
    """

    dataset: Dataset


@dataclass(frozen=True)
class Dataset(ABC):
    """Clips of one length and sampling rate.

    Attributes:
        fingerprint: what was found; decides the key of every run on it.
        ids: one name a clip.
        targets: (N, C), 0 or 1, NaN where nobody knows (OpenMIC's partial labels); rows by index.
        sources: the recordings that clips were cut from; no inner split divides one.
        folds: numbers of the folds; empty for one fixed split.
    """

    fingerprint: Fingerprint
    ids: Sequence[str]
    targets: Targets
    sources: Sequence[str]
    folds: tuple[int, ...]

    @abstractmethod
    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training and of the evaluation clips.

        Args:
            fold: the fold held out, or None where there are no folds.
        """

    @abstractmethod
    def waveform(self, index: int) -> np.ndarray:
        """Mono float32 samples of a clip, exactly as long as the data spec says."""

    def validation(self) -> np.ndarray | None:
        """Indices of the clips that the authors set aside to choose by; None where there are none.

        They belong to neither part of `split`. Where there are none, an inner split is cut from the
        training clips.
        """
        return None

    def survey(self) -> Survey | None:
        """What was found, clip by clip; None where nothing is stored (procedural data)."""
        return None

    def sound(self, index: int) -> Sound:
        """The audio file of a clip, or its bytes where it lies within another file.

        Raises:
            ValueError: procedural data.
        """
        raise ValueError("the sounds of this data set are not stored")

    def length(self, index: int) -> int | None:
        """How many samples the whole clip has at the sampling rate.

        None where it is never longer than `waveform` gives; then there is one `excerpt` alone.
        """
        return None

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, from another sample on; what lies behind the clip's end is zero.

        Raises:
            ValueError: the data set gives clips from their start alone.
        """
        if start:
            raise ValueError("the clips of this data set are read from their start alone")
        return self.waveform(index)

    def whole(self, index: int) -> np.ndarray:
        """Mono float32 samples of the whole clip at the sampling rate, of its own length.

        Where `length` is None and nothing else is known, it is what `waveform` gives.
        """
        wave = self.waveform(index)
        length = self.length(index)
        if length is None:
            return wave
        parts = [wave, *(self.excerpt(index, at) for at in range(len(wave), length, len(wave)))]
        return np.concatenate(parts)[:length]


@dataclass(frozen=True, eq=False)
class SurveyedDataset(Dataset):
    """A data set with a survey.

    Attributes:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz of the waveforms.
        found: what was found, clip by clip.
    """

    spec: DataSpec
    sampling_rate: int
    found: Survey

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The training and the test clips, or all other folds and the fold held out.

        Less of each where the spec says so.

        Raises:
            InputError: no such fold, or more clips asked for than there are.
        """
        if fold is None and not self.folds:
            train, test = self._part("train"), self._part("test")
        elif fold in self.folds:
            test = self._part(f"fold {fold}")
            train = ~test
        else:
            raise InputError(
                "no such fold",
                field="fold",
                value=fold,
                remedy=f"There are {self.folds}." if self.folds else "There are none; use None.",
            )
        spec = self.spec
        return (
            limited(np.flatnonzero(train), self.targets, spec.train_clips, "data.train_clips"),
            limited(np.flatnonzero(test), self.targets, spec.test_clips, "data.test_clips"),
        )

    def validation(self) -> np.ndarray | None:
        """The clips set aside to choose by; None where there are none."""
        chosen = np.flatnonzero(self._part("validation"))
        return chosen if len(chosen) else None

    def survey(self) -> Survey:
        """What was found, clip by clip."""
        return self.found

    def _part(self, name: str) -> np.ndarray:
        """Whether each clip is in a split."""
        splits = self.found.splits
        code = splits.index(name) if name in splits else -1
        held: np.ndarray = self.found.split == code
        return held
