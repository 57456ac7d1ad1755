"""Lists the published weight files (address, geometry, claimed result) and finds them here.

From the reference code's ``models/passt.py`` and its releases page, and the ``hear21passt``
package. Sizes of the time encodings are checked against the files after download.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from passt_bench.errors import InputError, choose_from
from passt_bench.vocabulary import class_names

FOLDER_VARIABLE = "PASST_BENCH_WEIGHTS"
_RELEASES = "https://github.com/kkoutini/PaSST/releases/download"
_CLASSES = {"audioset": 527, "openmic": 20, "fsd50k": 200, "esc50": 50, "imagenet": 1000}


@dataclass(frozen=True)
class Published:
    """A released weight file.

    Attributes:
        name: as the reference code calls it.
        url: where it was released.
        stride: of the patches along both axes; None where only the file tells.
        frames: that the time encodings cover.
        claimed: the result its authors state (a fold's accuracy of ESC-50, else mAP).
        averaged: whether weights were averaged over training (SWA); None where unknown.
        labels: the data set whose classes it knows.
        hop: of the front end, in samples at 32 kHz.
        clip: seconds of the clips it was trained on.
        depth: blocks.
        width: of the embedding.
        remark: what else to know.
    """

    name: str
    url: str
    stride: int | None = 10
    frames: int = 998
    claimed: float | None = None
    averaged: bool | None = False
    labels: str = "audioset"
    hop: int = 320
    clip: float = 10.0
    depth: int = 12
    width: int = 768
    remark: str = ""

    @property
    def file(self) -> str:
        """The name of the file."""
        return PurePosixPath(self.url).name

    @property
    def classes(self) -> int:
        """The number of its classes."""
        return _CLASSES[self.labels]

    def class_names(self) -> tuple[str, ...]:
        """The names of its classes, see `vocabulary.class_names`."""
        return class_names(self.labels, self.classes)


def _passt(name: str, release: str, **facts: object) -> Published:
    return Published(name, f"{_RELEASES}/{release}", **facts)  # type: ignore[arg-type]


_U = "its name says stride 16; 600 dropped patches need stride 10"
_AUDIOSET = (
    _passt(
        "passt_s_swa_p16_128_ap476",
        "v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt",
        claimed=0.476,
        averaged=True,
    ),
    _passt(
        "passt_s_swa_p16_128_ap4761",
        "v0.0.2-audioset/passt-s-f128-p16-s10-ap.4761-swa.pt",
        claimed=0.4761,
        averaged=True,
    ),
    _passt(
        "passt_s_p16_128_ap472", "v0.0.2-audioset/passt-s-f128-p16-s10-ap.472.pt", claimed=0.472
    ),
    _passt(
        "passt_s_p16_s12_128_ap470",
        "v0.0.2-audioset/passt-s-f128-p16-s12-ap.470.pt",
        claimed=0.470,
        stride=12,
    ),
    _passt(
        "passt_s_swa_p16_s12_128_ap473",
        "v0.0.2-audioset/passt-s-f128-p16-s12-ap.473-swa.pt",
        claimed=0.473,
        averaged=True,
        stride=12,
    ),
    _passt(
        "passt_s_p16_s14_128_ap469",
        "v0.0.2-audioset/passt-s-f128-p16-s14-ap.469.pt",
        claimed=0.469,
        stride=14,
    ),
    _passt(
        "passt_s_swa_p16_s14_128_ap471",
        "v0.0.2-audioset/passt-s-f128-p16-s14-ap.471-swa.pt",
        claimed=0.471,
        averaged=True,
        stride=14,
    ),
    _passt(
        "passt_s_p16_s16_128_ap468",
        "v0.0.2-audioset/passt-s-f128-p16-s16-ap.468.pt",
        claimed=0.468,
        stride=16,
    ),
    _passt(
        "passt_s_swa_p16_s16_128_ap473",
        "v0.0.2-audioset/passt-s-f128-p16-s16-ap.473-swa.pt",
        claimed=0.473,
        averaged=True,
        stride=16,
    ),
    _passt(
        "passt_20sec",
        "v0.0.5/passt-s-f128-20sec-p16-s10-ap.474-swa.pt",
        claimed=0.474,
        averaged=True,
        frames=2000,
        remark="trained on 10 s clips",
    ),
    _passt(
        "passt_30sec",
        "v0.0.5/passt-s-f128-30sec-p16-s10-ap.473-swa.pt",
        claimed=0.473,
        averaged=True,
        frames=3000,
        remark="trained on 10 s clips",
    ),
    _passt(
        "stfthop100",
        "v0.0.3-audioset/passt-s-f128-stfthop100-p16-s10-ap.473-swa.pt",
        claimed=0.473,
        averaged=True,
        frames=3200,
        hop=100,
    ),
    _passt(
        "stfthop160",
        "v0.0.3-audioset/passt-s-f128-stfthop160-p16-s10-ap.473-swa.pt",
        claimed=0.473,
        averaged=True,
        frames=2000,
        hop=160,
    ),
    _passt(
        "passt_b_f128_p16_s16_ap_459",
        "v.0.0.7-audioset/passt-b-f128-p16-s16-ap.459.pt",
        claimed=0.459,
        averaged=None,
        stride=None,
        remark="no patchout; its name says stride 16",
    ),
    _passt(
        "passt_u600_f128_p16_s16_ap_460",
        "v.0.0.7-audioset/passt-u600-f128-p16-s16-ap.460.pt",
        claimed=0.460,
        averaged=None,
        stride=None,
        remark=_U,
    ),
    _passt(
        "passt_s_kd_p16_128_ap486",
        "v.0.0.9/passt-s-kd-ap.486.pt",
        claimed=0.486,
        averaged=None,
        remark="distilled from an ensemble, after the paper",
    ),
    _passt(
        "passt_l_kd_p16_128_ap47",
        "v.0.0.10/passt-l-kd-ap.47.pt",
        claimed=0.4708,
        averaged=None,
        depth=7,
        remark="distilled from an ensemble, after the paper",
    ),
)
_FINE_TUNED = (
    _passt(
        "openmic",
        "v0.0.5/openmic-passt-s-f128-10sec-p16-s10-ap.85.pt",
        claimed=0.85,
        averaged=None,
        labels="openmic",
    ),
    _passt(
        "openmic2008_passt_u_f128_p16_s10_ap85",
        "v0.0.4-openmic/openmic2008.passt-u-f128-p16-s10-ap.85.pt",
        claimed=0.85,
        labels="openmic",
    ),
    _passt(
        "openmic2008_passt_u_f128_p16_s10_ap85_swa",
        "v0.0.4-openmic/openmic2008.passt-u-f128-p16-s10-ap.85-swa.pt",
        claimed=0.85,
        averaged=True,
        labels="openmic",
    ),
    _passt(
        "fsd50k",
        "v0.0.5/fsd50k-passt-s-f128-p16-s10-ap.655.pt",
        claimed=0.655,
        averaged=None,
        labels="fsd50k",
    ),
    _passt(
        "fsd50k-n",
        "v0.0.5/fsd50k-passt-s-n-f128-p16-s16-ap.642.pt",
        claimed=0.642,
        averaged=None,
        stride=16,
        labels="fsd50k",
    ),
    *(
        _passt(
            f"esc50_fold{fold}",
            f"v.0.0.6/esc50-passt-s-n-f128-p16-s10-fold{fold}-acc.{digits}.pt",
            claimed=int(digits) / 1000,
            averaged=None,
            labels="esc50",
            clip=5.0,
        )
        for fold, digits in enumerate(("967", "977", "959", "987", "962"), start=1)
    ),
)
_IMAGENET = (
    Published(
        "passt_deit_bd_p16_384",
        "https://dl.fbaipublicfiles.com/deit/deit_base_distilled_patch16_384-d0272ac0.pth",
        stride=None,
        labels="imagenet",
        remark="DeiT-B distilled, where PaSST's training begins",
    ),
)
PUBLISHED: dict[str, Published] = {
    entry.name: entry for entry in (*_AUDIOSET, *_FINE_TUNED, *_IMAGENET)
}


def find_published(name: str, sets: Iterable[str] = ()) -> Published:
    """The released file of that name.

    Args:
        name: of `passt-bench weights list`.
        sets: names that would do as well, for the message.

    Raises:
        InputError: none is called so.
    """
    if name not in PUBLISHED:
        raise InputError(
            "no published weights of that name",
            field="NAME",
            value=name,
            remedy=choose_from([*PUBLISHED, *sets], name),
        )
    return PUBLISHED[name]


def by_file(file: str) -> Published | None:
    """The released file with that file name, or None."""
    return next((entry for entry in PUBLISHED.values() if entry.file == file), None)


def weights_folder() -> Path:
    """Where published files lie: ``PASST_BENCH_WEIGHTS``, or the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    import pooch  # slow to import

    return Path(pooch.os_cache("passt_bench")) / "weights"


def locate(source: str | Path, folder: Path | None = None) -> Path:
    """The file behind a path, a published name, or a published file's name.

    Raises:
        InputError: it is not here; the message says where to get it and where to put it.
    """
    path = Path(source)
    entry = PUBLISHED.get(str(source)) or by_file(path.name)
    if path.is_file() or entry is None:
        return path  # a path that leads nowhere is told when it is read
    known = (folder or weights_folder()) / entry.file
    if not known.is_file():
        raise InputError(
            "these published weights are not on this machine",
            source=known,
            field="weights",
            value=str(source),
            remedy=f"Run `passt-bench weights get {entry.name}`, or download {entry.url} "
            "and put it there.",
        )
    return known
