"""A search small enough to run whole in a test: seconds on one core."""

from pathlib import Path

import optuna
from rich.console import Console

from passt_bench.records.search import SearchRecord
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import StudyPlan, plan_study
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.search import search
from passt_bench.runner.trials import open_storage
from passt_bench.spec import (
    DataSpec,
    FrontendSpec,
    ModelSpec,
    Patchout,
    Recipe,
    Search,
    Study,
    TrainingSpec,
    Variant,
)

BASE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, depth=1, heads=2),
    frontend=FrontendSpec(sampling_rate=8000, n_fft=256, window=200, hop=125, mels=32, fmax=3500.0),
    data=DataSpec("synthetic", seconds=0.5, train_clips=40, test_clips=20),
    training=TrainingSpec(epochs=1, batch_size=16),
)
STUDY = Study(
    name="tiny",
    question="?",
    base=BASE,
    variants=(Variant("none"), Variant("half", {"patchout": Patchout("time", rate=0.5)})),
    baseline="none",
    seeds=(0,),
    search=Search(budget="epochs"),  # at equal FLOPs they would be too short
)


def run_search(
    root: Path,
    trials: int = 6,
    minutes: float | None = None,
    study: Study = STUDY,
    storage: str | None = None,
    workers: int = 2,
) -> tuple[SearchRecord, StudyPlan | None]:
    paths = Paths(root, storage=storage)
    plan = plan_study(study, Datasets(paths))
    config = RunConfig(workers=workers, search_minutes=minutes)
    return search(plan, trials, config, paths, Console(quiet=True))


def journal(root: Path, name: str = "search-tiny") -> optuna.Study:
    """The only Optuna study in a journal."""
    storage = open_storage(root, name, None)
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)
