"""Names clips that are in a data set more than once, and recordings that a split divides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from passt_bench.data.contents import groups_of
from passt_bench.data.findings import Finding, Kind, finding
from passt_bench.data.leaks import divided, listed_twice, repeated, sets_of
from passt_bench.data.sounds import Decoded, Sounds
from passt_bench.data.survey import Survey

_SHOWN = 4  # members of a group that are named


def duplicates(
    survey: Survey, sounds: Sounds, same: np.ndarray, decoded: Decoded | None
) -> list[Finding]:
    """Clips that are there more than once, by list, by bytes and by sound.

    Args:
        survey: of the clips.
        sounds: their files.
        same: (files,) groups of identical files, -1 for those alone.
        decoded: what decoding told; None where nothing was decoded.
    """
    # One clip stands for all those of a file in a split: stretches of a file are no duplicates.
    pairs = np.stack([sounds.of_clip, survey.split.astype(np.int64)], axis=1)
    _, clips = np.unique(pairs, axis=0, return_index=True) if len(pairs) else (None, np.arange(0))
    files = sounds.of_clip[clips]
    heard = np.full(len(sounds), -1, dtype=np.int64)
    if decoded is not None:
        heard = np.where(np.isnan(decoded.seconds), -1, groups_of(decoded.digests))
        heard[decoded.silent] = -1
    kinds: tuple[tuple[Kind, Iterable[np.ndarray]], ...] = (
        ("listed twice", sets_of(listed_twice(survey))),
        ("identical files", (clips[part] for part in sets_of(same[files]))),
        (
            "identical sound",
            (clips[part] for part in sets_of(heard[files]) if not _equal(same[files[part]])),
        ),
    )
    across: list[str] = []
    found = []
    for kind, groups in kinds:
        within: list[str] = []
        for members in groups:
            one_split = _equal(survey.split[members])
            (within if one_split else across).append(_together(survey, members))
        found.append(finding(kind, within))
    return [finding("identical across splits", list(dict.fromkeys(across))), *found]


def _equal(values: np.ndarray) -> bool:
    """Whether all are the same, and not those of things that stand alone."""
    return bool((values == values[0]).all() and values[0] >= 0)


def divided_sources(survey: Survey) -> Iterator[str]:
    """Recordings of which clips stand in several splits, with one clip of each.

    Clips of one file are of one recording, whatever else their list says of their sources.
    """
    told: set[str] = set()
    for members in divided(repeated(survey.sources), survey.split):
        together = _together(survey, members, ", ")
        told.add(together)
        yield f"{survey.sources[int(members[0])]}: {together}"
    if survey.file is None or survey.files is None:
        return
    for members in divided(groups_of(survey.file), survey.split):
        together = _together(survey, members, ", ")
        if together not in told:
            yield f"{survey.files[survey.file[members[0]]]}: {together}"


def named(survey: Survey, clip: int) -> str:
    """A clip's split and name."""
    return f"{survey.splits[survey.split[clip]]} {survey.names[int(clip)]}"


def _together(survey: Survey, clips: np.ndarray, between: str = " = ") -> str:
    more = len(clips) - _SHOWN
    names = [named(survey, int(clip)) for clip in clips[:_SHOWN]]
    return between.join(names) + (f" and {more} more" if more > 0 else "")
