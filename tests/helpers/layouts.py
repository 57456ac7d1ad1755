"""Small data sets in exactly the published formats, with real audio inside.

Each function writes one data set below a folder and tells what it wrote (`Written`). Clips are one
second of `sounds.sound` and carry a few of the first classes; everything follows from the
arguments. The ESC-50 metadata without audio stand in esc_layout.py.
"""

from __future__ import annotations

from hdf5_layouts import (
    write_audioset_hdf5,
    write_fsd50k_hdf5,
    write_hdf5,
    write_openmic_hdf5,
    write_prepared_hdf5,
)
from single_layouts import MANIFEST_CLASSES, SCENES, write_dcase20, write_esc50, write_manifest
from tagging_layouts import write_audioset_folder, write_fsd50k, write_openmic
from written import Written, WrittenClip, signal

__all__ = [
    "MANIFEST_CLASSES",
    "SCENES",
    "Written",
    "WrittenClip",
    "signal",
    "write_audioset_folder",
    "write_audioset_hdf5",
    "write_dcase20",
    "write_esc50",
    "write_fsd50k",
    "write_fsd50k_hdf5",
    "write_hdf5",
    "write_manifest",
    "write_openmic",
    "write_openmic_hdf5",
    "write_prepared_hdf5",
]
