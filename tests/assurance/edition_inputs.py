"""Writes what both editions read: data sets, weight files and sounds. Run by the first edition.

Its helpers come from the first edition's tests too, so that nothing here moves with the rebuild.
"""

from __future__ import annotations

import sys
from pathlib import Path

import layouts
import numpy as np
import soundfile
import torch
from published_weights import write_published
from safetensors.torch import save_file
from small_weights import deit, passt, randomised, save

from passt_bench.models import create_model, save_model
from passt_bench.runner.prepare_data import Preparation, prepare_data
from passt_bench.spec import (
    DataSpec,
    FrontendSpec,
    ModelSpec,
    Recipe,
    TrainingSpec,
    ast_frontend,
    panns_frontend,
)

PUBLISHED = (
    "passt_s_swa_p16_s14_128_ap471", "passt_s_swa_p16_s16_128_ap473", "passt_s_swa_p16_128_ap476",
    "passt_20sec", "stfthop160", "passt_deit_bd_p16_384", "openmic", "fsd50k-n", "esc50_fold1",
)  # fmt: skip
CLASSES = ("dog", "cat", "rain, heavy")


def write_data(root: Path) -> None:
    """About 64 clips of each data set, in folders and in HDF5 files, and prepared ones."""
    layouts.write_manifest(root / "manifest", each=7, seconds=(0.8, 0.5, 1.6))
    for form, name in (("int16", "manifest-16000"), ("hdf5", "manifest-hdf5")):
        asked = Preparation("manifest", root / "manifest", 16000, form, root / name)  # type: ignore[arg-type]  # the first edition's
        prepare_data(asked)
    layouts.write_esc50(root / "esc50", each=4)
    counts = {"balanced_train": 32, "unbalanced_train": 32, "eval": 24}
    layouts.write_audioset_folder(root / "audioset", counts)
    layouts.write_audioset_hdf5(root / "audioset-hdf5", counts)
    counts = {"train": 48, "val": 16, "eval": 24}
    layouts.write_fsd50k(root / "fsd50k", counts)
    layouts.write_fsd50k_hdf5(root / "fsd50k-hdf5", counts)
    counts = {"train": 64, "test": 24}
    layouts.write_openmic(root / "openmic", counts)
    layouts.write_openmic_hdf5(root / "openmic-hdf5", counts)
    layouts.write_dcase20(root / "dcase20", each=2)


def write_own(root: Path) -> None:
    """Model files of this package, one a family."""
    specs = {
        "own": ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), depth=1),
        "own-panns_micro": ModelSpec("panns_micro", width=4, depth=2),
        "own-cp_resnet": ModelSpec("cp_resnet", width=8, rho=3),
        "own-mobilenetv3": ModelSpec("mobilenetv3", multiplier=0.25),
        "own-ast": ModelSpec("ast", width=64, depth=1, heads=1),
        "own-cnn6": ModelSpec("cnn6", width=4),
    }
    frontends = {"own-ast": ast_frontend(), "own-cnn6": panns_frontend()}
    for seed, (name, spec) in enumerate(specs.items()):
        frontend = frontends.get(name, FrontendSpec(hop=250))
        options = {field: value for field, value in vars(spec).items() if value is not None}
        del options["name"], options["longer"]
        net = create_model(
            spec.name, 3, mels=frontend.mels, frames=frontend.frames or 64, seed=seed, **options
        )
        for loss in ("bce", "ce"):
            training = TrainingSpec(loss=loss)  # type: ignore[arg-type]
            recipe = Recipe(spec, frontend=frontend, data=DataSpec(), training=training)
            save_model(root / f"{name}-{loss}.safetensors", net, recipe, CLASSES)
    scenes = create_model("passt_micro", 16, patch=8, stride=8, depth=1, mels=64, frames=64)
    classes = [f"class {number}" for number in range(16)]
    spec = specs["own"]
    save_model(
        root / "scenes.safetensors", scenes, Recipe(spec, frontend=FrontendSpec(hop=250)), classes
    )


def write_foreign(root: Path) -> None:
    """Weight files as others write them."""
    net = passt()
    state = dict(net.state_dict())
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, root / "p.safetensors")
    torch.save(state, root / "legacy.pt", _use_new_zipfile_serialization=False)
    save(root / "no-names.pt", passt(3))
    averaged = dict(randomised(passt(), 9).state_dict())
    wrapped = {f"net.{name}": tensor for name, tensor in state.items()}
    wrapped |= {f"net_swa.{name}": tensor for name, tensor in averaged.items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, root / "lightning.ckpt")
    torch.save({"model": deit(24)}, root / "deit.pth")
    torch.save(deit(24, distilled=False), root / "vit.pth")
    ast = create_model("ast", 527, width=64, depth=1, heads=1, frames=1024)
    save(root / "ast.pth", ast, "module.")
    for name in ("cnn6", "cnn10", "cnn14"):
        cnn = randomised(create_model(name, 527, width=4, mels=64), 3)
        torch.save({"model": cnn.state_dict()}, root / f"{name}.pth")
    (root / "names.txt").write_text("one\ntwo\nthree\n")
    (root / "empty.pt").write_bytes(b"")
    (root / "page.pt").write_text("<!DOCTYPE html><html>Not found</html>")
    torch.save({"a": torch.ones(1)}, root / "other.pt")


def write_sounds(root: Path) -> None:
    """Short and long, mono and stereo sounds, and a file that is none."""
    for name, seconds, rate, channels in (("a", 0.6, 8000, 1), ("b", 2.5, 44100, 2)):
        noise = np.random.default_rng(rate).standard_normal((round(seconds * rate), channels))
        soundfile.write(root / f"{name}.wav", 0.1 * noise, rate, subtype="FLOAT")
    (root / "broken.wav").write_bytes(b"RIFF, but no more")


def main(root: Path) -> None:
    """Writes everything below a folder."""
    (root / "files").mkdir(parents=True)
    (root / "empty").mkdir()
    write_data(root)
    write_published(root / "published", PUBLISHED)
    write_own(root / "files")
    write_foreign(root / "files")
    write_sounds(root / "files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
