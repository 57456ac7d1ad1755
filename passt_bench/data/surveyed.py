"""Data sets that know what was found of them clip by clip: their splits follow from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passt_bench.data.dataset import Dataset
from passt_bench.data.splits import limited
from passt_bench.data.survey import Survey
from passt_bench.errors import InputError
from passt_bench.spec.recipe import DataSpec


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
