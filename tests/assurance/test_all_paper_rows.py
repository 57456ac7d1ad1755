"""Every row of the paper's three tables runs end to end, on small files of the published formats.

Weights are random, in files as they are released: once 64 wide for all rows, and once of their
real size for the five rows of ESC-50.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import pytest
from fixtures import Cli
from layouts import (
    write_audioset_folder,
    write_dcase20,
    write_esc50,
    write_fsd50k,
    write_openmic,
)
from small_weights import HEADS, WIDTH, write_published

from passt_bench.paper import REASONS, STUDIES, TRAINED, published_rows
from passt_bench.published_weights import ENSEMBLES
from passt_bench.records.run import RunRecord, VariantRecord
from passt_bench.records.store import Store

NARROW = (f"model.width={WIDTH}", f"model.heads={HEADS}")
BRIEF = (
    *("engine.precision=float32", "training.epochs=1", "training.batch_size=2"),
    *("training.swa_start=null", "training.epoch_clips=4", "data.train_clips=4"),
)
QUIETLY = ("--no-cost", "--no-track", "--device", "cpu")


WRITE = {
    "audioset": write_audioset_folder,
    "openmic": partial(write_openmic, counts={"train": 8, "test": 8}),  # a class has both labels
    "fsd50k": write_fsd50k,
    "dcase20": write_dcase20,
    "esc50": write_esc50,
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data of all five sets, ``data/NAME``, and the weights of all rows."""
    root = tmp_path_factory.mktemp("machine")
    for name, write in WRITE.items():
        write(root / "data" / name)
    write_published(root / "weights", {name for row in published_rows() for name in row.weights})
    return root


@pytest.fixture(autouse=True)
def _here(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(machine / "weights"))
    monkeypatch.delenv("PASST_BENCH_DATA", raising=False)
    monkeypatch.chdir(machine)


def run(cli: Cli, table: str, *words: object, sets: tuple[str, ...] = ()) -> str:
    given = [word for item in sets for word in ("--set", item)]
    status, text = cli("run", table, *given, *QUIETLY, *words)
    assert status == 0, text[-2000:]
    return text


def finished(store: Store, study: str) -> list[tuple[VariantRecord, RunRecord]]:
    """The variants of a study, each with its first record."""
    found = [(variant, store.run(variant.cells[0].key)) for variant in store.study(study).variants]
    for variant, record in found:
        assert record and record.status == "ok", f"{study}: {variant.name}: {record}"
    return found


def test_all_rows_of_all_tables(cli: Cli, machine: Path) -> None:
    data = [word for name in WRITE for word in ("--data", f"{name}={machine / 'data' / name}")]
    for name, (protocol, _) in STUDIES.items():
        folds = ("--folds", 1) if protocol == "esc50" else ()
        brief = BRIEF if protocol == TRAINED else BRIEF[:-2] + BRIEF[-1:]
        run(cli, name, *data, "--seeds", 1, *folds, sets=(*NARROW, *brief))
    for name in ENSEMBLES:
        audioset = f"audioset={machine / 'data' / 'audioset'}"
        assert cli("evaluate", "--checkpoint", name, "--data", audioset)[0] == 0
    store = Store(machine / "runs")
    assert set(store.studies()) == set(STUDIES)
    for study in store.studies():
        for variant, record in finished(store, study):
            scratch = variant.recipe.init.source == "scratch"
            assert scratch == (variant.name in ("PANNs", "CNN (RF-CNN)"))
            begun = any(note.startswith(("passt-s-", "deit_base")) for note in record.notes)
            assert scratch != begun
    assert len(store.evaluations()) == len(ENSEMBLES)
    assert cli("report", "--runs", "runs")[0] == 0
    for number in (1, 2, 3):
        with (machine / "runs" / "reports" / "paper" / f"table{number}_here.csv").open() as file:
            told = [line["ran_here"] for line in csv.DictReader(file)]
        ran = [text for text in told if text != "cited"]
        assert len(ran) == (9, 4, 5)[number - 1]
        assert not [text for text in ran for reason in REASONS if reason in text]


def test_rows_of_their_real_size(
    cli: Cli, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("passt_s_swa_p16_128_ap476", "passt_s_swa_p16_s16_128_ap473")
    monkeypatch.setenv("PASST_BENCH_WEIGHTS", str(write_published(tmp_path, names, width=768)))
    data = ("--data", f"esc50={machine / 'data' / 'esc50'}")
    more = ("--seeds", 1, "--folds", 1, "--workers", 1, "--runs", machine / "large_runs")
    run(cli, "paper_table3_esc50", *data, *more, sets=BRIEF[:-2] + BRIEF[-1:])
    store = Store(machine / "large_runs")
    found = {variant.name: record for variant, record in finished(store, "paper_table3_esc50")}
    assert found["PaSST-B"].tokens == 590  # 12 x 49 patches of 5 s
    assert found["PaSST-S"].tokens == 353  # as the reference code has it
    assert 85_000_000 < found["PaSST-B"].parameters < 87_000_000
    assert 49_000_000 < found["PaSST-S-L"].parameters < 51_000_000
