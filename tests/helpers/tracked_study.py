"""A small study on disk whose results are known, and what MLflow has of it."""

import json
from dataclasses import replace
from pathlib import Path

from passt_bench.records.run import (
    CellRecord,
    Fingerprint,
    RunRecord,
    StudyRecord,
    VariantRecord,
)
from passt_bench.records.session import ArmRecord, Interval, SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.tracking import KEY, store_uri
from passt_bench.spec import Patchout, Recipe
from passt_bench.spec.key import digest

FINGERPRINT = Fingerprint("synthetic", "f" * 16, 10, 10, ("a", "b"), True)
RECIPES = {
    "none": Recipe(),
    "half": replace(Recipe(), patchout=Patchout("unstructured", rate=0.5)),
    "huge": replace(Recipe(), patchout=Patchout("time", rate=0.25)),
}
TOKENS = {"none": 82, "half": 42, "huge": 62}
MAP = {"none": (0.80, 0.82, 0.81), "half": (0.60, 0.61, 0.63)}


def cell_key(variant: str, seed: int) -> str:
    return digest([variant, seed])


def arm_key(variant: str) -> str:
    return digest(["arm", variant])


def cell_record(variant: str, seed: int) -> RunRecord:
    record = RunRecord(
        key=cell_key(variant, seed),
        status="ok",
        recipe=RECIPES[variant],
        seed=seed,
        fold=None,
        fingerprint=FINGERPRINT,
        tokens=TOKENS[variant],
        tokens_full=82,
        parameters=76_000,
        finished=f"2026-11-20T10:00:0{seed}+00:00",
        clocks={"train": 20.0},
    )
    if variant == "huge":
        return replace(record, status="oom", message="killed at 3 GiB")
    quality = MAP[variant][seed]
    return replace(
        record,
        metrics={"mAP": quality, "accuracy": quality / 2},
        curves={"train_loss": (0.5, 0.25, 0.125), "learning_rate": (1e-3, 5e-4, 0.0)},
        occlusions={"hide_frequency": {"mAP": 0.3}},
        train={"step_seconds": 0.02, "peak_bytes": 1e8},
    )


def study_record(seeds: tuple[int, ...] = (0, 1, 2), name: str = "small") -> StudyRecord:
    variants = tuple(
        VariantRecord(
            name=variant,
            recipe=recipe,
            arm=arm_key(variant),
            cells=tuple(CellRecord(cell_key(variant, seed), seed, None) for seed in seeds),
            tokens=TOKENS[variant],
            tokens_full=82,
            patchout={"rate": 0.5, "patches": 40},
        )
        for variant, recipe in RECIPES.items()
    )
    return StudyRecord(name, "Why?", "mAP", "none", variants, seeds, None, FINGERPRINT)


def session_record() -> SessionRecord:
    def arm(variant: str, milliseconds: float, mebibytes: float) -> ArmRecord:
        seconds = milliseconds / 1000
        return ArmRecord(
            key=arm_key(variant),
            status="ok",
            recipe=RECIPES[variant],
            tokens=TOKENS[variant],
            batch_size=32,
            phases={"train_step": Interval(seconds, seconds * 0.9, seconds * 1.1, 15)},
            ratios={"train_step": Interval(seconds / 0.02, seconds / 0.021, seconds / 0.019, 15)},
            memory={"train_peak": mebibytes * 2**20, "saved_for_backward": 2.0**20},
            flops=1e9,
            mfu=0.25,
        )

    failed = ArmRecord(arm_key("huge"), "oom", RECIPES["huge"], message="killed")
    arms = (arm("none", 20.0, 400.0), arm("half", 12.0, 300.0), failed)
    return SessionRecord("5" * 16, arm_key("none"), arms, finished="2026-11-20T11:00:00+00:00")


def write_all(root: Path, seeds: tuple[int, ...] = (0, 1, 2), name: str = "small") -> Store:
    """Writes the study with all its records: a summary and a cell a seed for each variant."""
    store = Store(root)
    store.write_study(study_record(seeds, name))
    for variant in RECIPES:
        for seed in seeds:
            store.write(cell_record(variant, seed))
    store.write(session_record())
    return store


def make_unfinished(root: Path, key: str, losses: tuple[float, ...]) -> Path:
    """Puts the progress of a cell in the place of its record; the progress file."""
    folder = Store(root).folder(key)
    (folder / "record.json").unlink(missing_ok=True)
    lines = ({"epoch": i, "train_loss": x, "seconds": i} for i, x in enumerate(losses, 1))
    path = folder / "progress.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def client_of(root):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store_uri(root))


def runs_of(root, study="small"):
    """Active runs by key; fails where a key has two."""
    client = client_of(root)
    runs = client.search_runs([client.get_experiment_by_name(study).experiment_id])
    keys = [run.data.tags[KEY] for run in runs]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, runs, strict=True))


def summary_of(root, variant, study="small"):
    tags = {"role": "summary", "variant": variant}
    (run,) = [r for r in runs_of(root, study).values() if tags.items() <= r.data.tags.items()]
    return run


def curve_of(root, key):
    points = client_of(root).get_metric_history(runs_of(root)[key].info.run_id, "train_loss")
    return [(point.step, point.value) for point in points]
