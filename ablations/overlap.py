"""What does overlap gain, once patchout is held fixed?

Question: is a finer stride worth the extra tokens? The published comparison over stride changes
patchout together with stride; three designs separate the two:

- paper: counts scale with the grid as in Table 1 (PaSST-S 40/4 at stride 10, PaSST-S-N 20/2 at 16,
  the latter inferred from its sequence length);
- equal rate: the same fraction is dropped at every stride;
- equal tokens: as many patches are kept at every stride.

Command: nox -s ablate -- overlap
Expected time: about 4 minutes on two CPU cores (built-in synthetic scenes).

Expected outcome: a finer stride gains mAP at full tokens; at equal tokens the gain is smaller.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant

from .recipes import synthetic

STUDY = Study(
    name="overlap",
    question="What does overlap gain, once patchout is held fixed?",
    base=synthetic(),
    baseline="stride 8",
    variants=(
        Variant("stride 8"),
        Variant("stride 6", {"model.stride": (6, 6)}),
        # Paper: 40 of 99 columns and 4 of 12 rows at stride 10, 20 of 62 and 2 of 8 at 16.
        Variant("stride 8, paper", {"patchout": Patchout("structured", time=3, frequency=2)}),
        Variant(
            "stride 6, paper",
            {"model.stride": (6, 6), "patchout": Patchout("structured", time=4, frequency=3)},
        ),
        Variant("stride 8, rate .5", {"patchout": Patchout("unstructured", rate=0.5)}),
        Variant(
            "stride 6, rate .5",
            {"model.stride": (6, 6), "patchout": Patchout("unstructured", rate=0.5)},
        ),
        Variant("stride 8, 32 patches", {"patchout": Patchout("unstructured", patches=32)}),
        Variant(
            "stride 6, 32 patches",
            {"model.stride": (6, 6), "patchout": Patchout("unstructured", patches=68)},
        ),
    ),
    contrasts={
        "stride 6 − stride 8": {
            "at full tokens": {"stride 6": 1, "stride 8": -1},
            "with the paper's counts": {"stride 6, paper": 1, "stride 8, paper": -1},
            "at equal rate": {"stride 6, rate .5": 1, "stride 8, rate .5": -1},
            "at equal tokens": {"stride 6, 32 patches": 1, "stride 8, 32 patches": -1},
        }
    },
    minutes=4,
)
