"""A small study on disk whose results are known, and what MLflow has of it."""

import json
from dataclasses import replace
from pathlib import Path

import small_studies

from passt_bench.records.run import RunRecord, StudyRecord
from passt_bench.records.store import Store
from passt_bench.runner.tracked_run import store_uri
from passt_bench.runner.tracking import KEY

MAP = {"none": (0.80, 0.82, 0.81), "half": (0.60, 0.61, 0.63), "huge": (0.0, 0.0, 0.0)}
SESSION = small_studies.session_key("costs")


def cell_key(variant: str, seed: int) -> str:
    return small_studies.key(variant, seed, None)


def study_record(seeds: tuple[int, ...] = (0, 1, 2), name: str = "small") -> StudyRecord:
    return replace(small_studies.study(tuple(MAP), seeds), name=name)


def cell_record(variant: str, seed: int) -> RunRecord:
    status = "oom" if variant == "huge" else "ok"
    record = small_studies.run(study_record(), variant, seed, MAP[variant][seed], status=status)
    curves = {"train_loss": (0.5, 0.25, 0.125), "learning_rate": (1e-3, 5e-4, 0.0)}
    return record if variant == "huge" else replace(record, curves=curves)


def write_all(root: Path, seeds: tuple[int, ...] = (0, 1, 2), name: str = "small") -> Store:
    """Writes the study with all its records: a summary and a cell a seed for each variant."""
    store = Store(root)
    store.write_study(study_record(seeds, name))
    for variant in MAP:
        for seed in seeds:
            store.write(cell_record(variant, seed))
    seconds = {"none": 0.02, "half": 0.012, "huge": 1.0}
    session = small_studies.session("costs", "2026-11-20T11:00:00+00:00", seconds, failed=["huge"])
    store.write(session)
    return store


def make_unfinished(root: Path, key: str, losses: tuple[float, ...]) -> Path:
    """Puts the progress of a cell in the place of its record; the progress file."""
    folder = Store(root).folder(key)
    (folder / "record.json").unlink(missing_ok=True)
    shared = {"epochs": 9, "learning_rate": 1e-3, "inner/mAP": 0.7}
    lines = ({"epoch": i, "train_loss": x, "seconds": i} | shared for i, x in enumerate(losses, 1))
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
