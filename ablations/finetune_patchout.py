"""What does patchout cost in fine-tuning, at equal epochs, as in the paper?

Question: the paper fine-tunes a pretrained model with and without patchout for as many epochs, and
finds it not worse for a fraction of the cost. Does that hold for a model of one's own?

Command: passt-bench run finetune_patchout --set init.checkpoint=FILE --data esc50=DIR
Expected time: about 12 minutes on two CPU cores with ESC-10 (400 clips).

Design: FILE is a model file: one that pretrain_patchout kept (RUNS/records/KEY/model.safetensors),
or another, with its model and front end given as in paper_table3_esc50. Without patchout, with half
of the patches dropped one by one, and as rows and columns, it is trained for 16 epochs. Five seeds
on each published fold. All variants start from the one FILE; run it once for each pretrained model,
with another --name. On a GPU add --device cuda.

What it leaves open: the learning rate is not tuned, and a small model, pretrained on a thousand
clips, is not a PaSST from AudioSet.
"""

from __future__ import annotations

from passt_bench.spec import InitSpec, Patchout, Study, Variant, override, pairwise

from .recipes import esc

STUDY = Study(
    name="finetune_patchout",
    question="What does patchout cost in fine-tuning, at equal epochs?",
    base=override(esc(), {"init": InitSpec("checkpoint"), "training.learning_rate": 5e-4}),
    baseline="none",
    variants=(
        Variant("none"),
        Variant("unstructured .5", {"patchout": Patchout("unstructured", rate=0.5)}),
        Variant("structured .5", {"patchout": Patchout("structured", time=6, frequency=1)}),
    ),
    contrasts={"kinds at equal tokens": pairwise("unstructured .5", "structured .5")},
    minutes=12,
)
