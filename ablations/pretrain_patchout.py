"""Trains the models that finetune_patchout starts from, without patchout and with half dropped.

Question: which models does finetune_patchout start from?

Command: passt-bench run pretrain_patchout --keep-models --data esc50=DIR
Expected time: about 5 minutes on two CPU cores.

Design: DIR has the layout of ESC-50 and should hold none of the classes of the fine-tuning. This
makes one with the 40 classes of ESC-50 that are not in ESC-10:

    import pandas, pathlib
    source, target = pathlib.Path("ESC-50"), pathlib.Path("ESC-40")
    (target / "meta").mkdir(parents=True)
    (target / "audio").symlink_to((source / "audio").resolve())
    clips = pandas.read_csv(source / "meta/esc50.csv")
    clips[~clips["esc10"]].to_csv(target / "meta/esc50.csv", index=False)

Both models have the FLOPs of 32 epochs without patchout, on four of the five folds. One seed: this
study is not about their difference.
"""

from __future__ import annotations

from passt_bench.spec import Patchout, Study, Variant, override

from .recipes import esc

STUDY = Study(
    name="pretrain_patchout",
    question="Which models does finetune_patchout start from?",
    base=override(esc(), {"training.epochs": 32}),
    baseline="none",
    variants=(
        Variant("none"),
        Variant("unstructured .5", {"patchout": Patchout("unstructured", rate=0.5)}),
    ),
    shared="flops",
    seeds=(0,),
    folds=(1,),
    minutes=5,
)
