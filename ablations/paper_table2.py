"""Table 2 of the paper: ensembles on AudioSet.

Question: how much better than one PaSST is the mean of several with different overlap?

Commands: passt-bench plan paper_table2
          nox -s ablate -- paper_table2 --data audioset=DIR
Needs the evaluation split of AudioSet, the published weights (`passt-bench weights get
ensemble_many` downloads all nine) and a GPU; nothing is trained.

Expected outcome: two models .486, four .493, five .495, nine .496.
"""

from __future__ import annotations

from passt_bench.spec import override
from passt_bench.spec.rows import Pace, Row

from .published import AUDIO_SET, TABLE1, cited, on_audioset, passt_variants

_S10 = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_128_ap4761", "passt_s_p16_128_ap472")
_S12 = ("passt_s_p16_s12_128_ap470", "passt_s_swa_p16_s12_128_ap473")
_S14 = ("passt_s_p16_s14_128_ap469", "passt_s_swa_p16_s14_128_ap471")
_S16 = ("passt_s_p16_s16_128_ap468", "passt_s_swa_p16_s16_128_ap473")
_FOUR = (_S10[0], _S12[1], _S14[1], _S16[1])
_PACE = Pace(
    TABLE1["PaSST-B"][1],
    override(on_audioset(), passt_variants("audioset")[0].changes),
)


def _ensemble(name: str, published: float, members: tuple[str, ...]) -> Row:
    return Row(
        "table2",
        name,
        AUDIO_SET,
        "mAP_official",
        published,
        members=members,
        pace=_PACE,
        notes=("members as in config_updates.py of the reference code",),
    )


# The paper does not say which AST ensemble is which.
ROWS = (
    cited("table2", "Baseline (Gemmeke 2017)", AUDIO_SET, "mAP_official", 0.314),
    cited("table2", "PSLA Ensemble-S", AUDIO_SET, "mAP_official", 0.469),
    cited("table2", "PSLA Ensemble-M", AUDIO_SET, "mAP_official", 0.474),
    cited("table2", "AST Ensemble-S", AUDIO_SET, "mAP_official", 0.475),
    cited("table2", "AST Ensemble-M", AUDIO_SET, "mAP_official", 0.485),
    _ensemble("PaSST-S S16,14", 0.486, (_S14[1], _S16[1])),
    _ensemble("PaSST-S S10-16", 0.493, _FOUR),
    _ensemble("PaSST-S S10-16", 0.495, (*_FOUR, _S10[1])),
    _ensemble("PaSST-S S10-16", 0.496, (*_S10, *_S12, *_S14, *_S16)),
)
