"""`records diff`, `merge` and `clean`, on stores whose truth is known."""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from filelock import FileLock, Timeout
from fixtures import Cli
from on_disk import files
from planned_study import finished, planned, write

from passt_bench.errors import InputError
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.maintenance import (
    compare_records,
    find_record,
    find_removable,
    merge,
    remove,
)
from passt_bench.runner.plan import StudyPlan
from passt_bench.runner.run_status import COSTS, STUDIES, discard, lock
from passt_bench.spec import override
from passt_bench.training.features import features_path


@pytest.fixture(scope="module")
def plan(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    return planned(study_file, tmp_path_factory.mktemp("none"))


def session(plan: StudyPlan, arms: tuple[str, ...], key: str = "5" * 16) -> SessionRecord:
    recipe = plan.cells[0].recipe
    return SessionRecord(
        key, arms[0], tuple(ArmRecord(arm, "ok", recipe) for arm in arms), machine={"cpu": "X"}
    )


def test_diff_names_each_field_that_decides(plan: StudyPlan) -> None:
    cell = plan.cells[0]
    one = finished(cell)
    changes = {"training.epochs": 7, "patchout.schedule": "rising", "engine.threads": 2}
    other = replace(
        one, recipe=override(cell.recipe, {**changes, "measurement.rounds": 9}), seed=3, fold=1,
        fingerprint=replace(cell.fingerprint, digest="another", found=99),
        components={**cell.components, "model": 9}, versions={**one.versions, "torch": "0.0"},
        machine={"cpu": "other"}, commit="abc",
    )  # fmt: skip
    found = compare_records(one, other)
    assert (
        found.items()
        >= {
            "recipe.training.epochs": ("2", "7"),
            "recipe.patchout.schedule": ('"constant"', '"rising"'),
            "recipe.engine.threads": ("1", "2"),
            "seed": ("0", "3"),
            "fold": ("null", "1"),
            "fingerprint.digest": (f'"{cell.fingerprint.digest}"', '"another"'),
            "components.model": (str(cell.components["model"]), "9"),
        }.items()
    )
    free = {
        "recipe.measurement.rounds",
        "versions.torch",
        "machine.cpu",
        "commit",
        "fingerprint.found",
    }
    assert free <= found.keys()
    assert "recipe.training.batch_size" not in found
    for a, b in itertools.product(plan.cells, repeat=2):
        assert (a.key == b.key) == (not compare_records(finished(a), finished(b)))


def test_records_are_found_by_beginning_and_path(plan: StudyPlan, cli: Cli, tmp_path: Path) -> None:
    store, key = write(tmp_path, plan), plan.cells[0].key
    folder = store.folder(key)
    for name in (key, key[:12], str(folder), str(folder / "record.json")):
        assert find_record(name, store).key == key
    for name in ("zzz", "", str(tmp_path / "no")):
        with pytest.raises(InputError, match=r"record = .*no such record.*Give a key"):
            find_record(name, store)
    store.write(session(plan, ("a" * 16,)))
    for other, status, part in (
        (plan.cells[1].key, 0, "recipe.patchout.kind"),
        ("5" * 16, 2, "kind = 'quality, cost'"),
    ):
        code, said = cli("records", "diff", key, other, "--runs", tmp_path)
        assert code == status and part in said, said
    twin = key[:-1] + ("0" if key[-1] != "0" else "1")
    store.write(replace(finished(plan.cells[0]), key=twin))
    with pytest.raises(InputError, match=f"2 keys start with this prefix.*{key}"):
        find_record(key[:15], store)


def test_folders_are_brought_together(plan: StudyPlan, tmp_path: Path) -> None:
    variants = tuple(replace(v, cells=v.cells[:1]) for v in plan.record.variants[:2])
    one = write(tmp_path / "one", plan, slice(0, 3))
    two = write(tmp_path / "two", plan, slice(2, 6))
    one.write_study(replace(plan.record, variants=variants, seeds=(0,)))
    arm = plan.record.variants[0].arm
    two.write(session(plan, (arm,)), samples={arm: [1.0]})
    alike = session(plan, (arm,), "6" * 16)
    one.write(alike)
    two.write(replace(alike, rounds=7))
    failed, mended = plan.cells[0], plan.cells[1]
    one.write(failure(failed, "error", "why"))
    two.write(finished(failed))
    two.write(failure(mended, "oom", "why"))
    two.write(replace(finished(plan.cells[5]), attempt=2))
    (two.folder(failed.key) / "checkpoint.pt").write_bytes(b"x")
    (two.folder(failed.key) / ".record.json.abc").write_bytes(b"x")
    before = files(tmp_path)
    done = merge([one.root, two.root], tmp_path / "all")
    assert before.items() <= files(tmp_path).items()
    store = Store(tmp_path / "all")
    found = {record.key: record.status for record in store.records() if record.kind == "quality"}
    assert found == {cell.key: "ok" for cell in plan.cells}
    assert done.replaced == [failed.key]
    assert done.kept == sorted([mended.key, alike.key])
    assert alike in store.sessions()
    assert done.same == [plan.cells[2].key]
    assert store.study("tiny") == plan.record
    assert (store.folder("5" * 16) / "samples.json.gz").is_file()
    assert [r.attempt for r in store.attempts(plan.cells[5].key)] == [1, 2]
    kept = sorted(path.name for path in store.folder(failed.key).iterdir())
    assert kept == ["attempt-1.json", "record.json"]
    stamp = (store.root / "studies" / "tiny.json").stat()
    again = merge([one.root, two.root], tmp_path / "all")
    assert not again.copied and not again.replaced
    assert (store.root / "studies" / "tiny.json").stat() == stamp  # the same is not written again


@pytest.mark.parametrize("name", ["{}.lock", "{}.work.lock"])
def test_nothing_is_merged_into_a_folder_in_use(
    plan: StudyPlan, tmp_path: Path, cli: Cli, name: str
) -> None:
    two, target, key = write(tmp_path / "two", plan), Store(tmp_path / "all"), "a" * 16
    with lock(target.root, name.format(key)):
        status, said = cli("records", "merge", two.root, "--runs", target.root)
    assert (status, target.record_keys()) == (2, [])
    assert f"key = '{key}': a command is running in this folder" in said
    status, said = cli("records", "merge", two.root, "--runs", target.root)
    assert (status, target.record_keys()) == (0, two.record_keys())
    assert f"{len(plan.cells)} records copied" in said


def with_another_recipe(store: Store, plan: StudyPlan) -> None:
    first, second, *rest = plan.record.variants
    variants = (replace(second, name=first.name), second, *rest)
    store.write_study(replace(plan.record, variants=variants))


def without_records(store: Store, plan: StudyPlan) -> None:
    for name in ("records", "studies"):
        (store.root / name).rename(store.root / f"{name}-")


def another_key(store: Store, plan: StudyPlan) -> None:
    folder = store.write(finished(plan.cells[0])).parent
    folder.rename(folder.with_name("f" * 16))


@pytest.mark.parametrize(
    ("spoil", "field", "value"),
    [
        (lambda s, p: s.write(finished(p.cells[0], 0.5 + 4e-16)), "metrics.mAP", 0.5 + 4e-16),
        (lambda s, p: s.write(session(p, ("a" * 16,), key=p.cells[0].key)), "kind", "cost"),
        (lambda s, p: s.write_study(replace(p.record, margin=0.5)), "margin", 0.5),
        (with_another_recipe, "variants", ANY),
        (another_key, "key", ANY),
        (without_records, "FROM", ANY),
        (lambda s, p: s.write(finished(p.cells[3])).write_text("{"), None, None),
    ],
    ids=["metrics", "kind", "margin", "recipe", "folder", "no store", "half"],
)
def test_what_contradicts_is_refused_and_nothing_copied(
    spoil: Callable[[Store, StudyPlan], object], field: str | None, value: object, plan: StudyPlan,
    tmp_path: Path,
) -> None:  # fmt: skip
    one = write(tmp_path / "one", plan, slice(0, 2))
    two = write(tmp_path / "two", plan, slice(4, 6))
    spoil(two, plan)
    before = files(one.root)
    with pytest.raises(InputError) as caught:
        merge([two.root], one.root)
    assert (caught.value.field, caught.value.value) == (field, value)
    assert str(caught.value.source).startswith(str(two.root))
    assert files(one.root) == before


def _old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    os.utime(path, (1e9, 1e9))
    return path


def test_clean_finds_what_is_of_no_use(plan: StudyPlan, cli: Cli, tmp_path: Path) -> None:
    store = write(tmp_path, plan, slice(0, 5))
    done, failed, begun = plan.cells[0].key, plan.cells[4], plan.cells[5]
    store.write(failure(failed, "error", "why"))
    used_session = session(plan, (plan.record.variants[0].arm,))
    store.write(used_session)
    store.write(session(plan, ("9" * 16,), key="6" * 16))
    alien = store.write(replace(finished(begun), key="7" * 16)).parent
    used = features_path(tmp_path / "cache", begun.recipe, begun.fingerprint.digest)
    locks, cache = tmp_path / "locks", tmp_path / "cache"
    kept = [
        used,
        store.folder(begun.key) / "checkpoint.pt",
        store.folder(begun.key) / "progress.jsonl",
        store.folder(failed.key) / "checkpoint.pt",
        *(locks / name for name in (f"{begun.key}.lock", COSTS, STUDIES)),
    ]
    debris = [
        store.folder(done) / ".record.json.killed",
        tmp_path / "studies" / ".tiny.json.killed",
        cache / ".features-x.npy.killed",
        store.folder(done) / "checkpoint.pt",
        store.folder(done) / "checkpoint-before.pt",
        *(locks / f"{name}.lock" for name in (done, f"{failed.key}.work", "5" * 16)),
        cache / "features-0123456789abcdef.npy",
    ]
    for path in (*kept, *debris):
        _old(path)
    fresh = store.folder(done) / ".record.json.fresh"
    fresh.write_bytes(b"somebody writes")
    found = find_removable(tmp_path)
    assert {p for item in found if not item.results for p in item.paths} == set(debris)
    assert [item.size for item in found if not item.results] == [15, 10, 15, 5]
    (results,) = (item for item in found if item.results)
    assert set(results.paths) == {alien, store.folder("6" * 16)}
    before = files(tmp_path)
    assert cli("records", "clean", "--runs", tmp_path)[0] == 0
    assert files(tmp_path) == before
    assert cli("records", "clean", "--runs", tmp_path, "--yes")[0] == 0
    assert not any(path.exists() for path in debris)
    assert all(path.exists() for path in (*kept, fresh, alien))
    assert cli("records", "clean", "--runs", tmp_path, "--yes", "--unused-records")[0] == 0
    assert not alien.exists()
    assert all(path.exists() for path in (*kept, fresh))
    assert {cell.key for cell in plan.cells[:5]} <= set(store.record_keys())
    assert store.sessions() == [used_session]


def test_what_is_at_work_is_left(plan: StudyPlan, tmp_path: Path) -> None:
    store, key = write(tmp_path, plan, slice(0, 1)), plan.cells[0].key
    checkpoint = _old(store.folder(key) / "checkpoint.pt")
    held = _old(tmp_path / "locks" / f"{key}.lock")
    with FileLock(held, timeout=0):
        assert not any(item.paths for item in find_removable(tmp_path))
    found = find_removable(tmp_path)
    with FileLock(held, timeout=0):  # taken since
        for item in found:
            remove(item)
        assert held.exists()
        with pytest.raises(Timeout), FileLock(held, timeout=0):
            pass
    for item in find_removable(tmp_path):
        remove(item)
    assert not checkpoint.exists() and not held.exists()


def test_who_waits_for_a_lock_that_is_removed_gets_one_that_others_see(tmp_path: Path) -> None:
    """Four at once on a counter that only the lock protects, and one that removes its file."""
    path, count, ended = tmp_path / "a.lock", [0], threading.Event()

    def work() -> None:
        for _ in range(100):
            with FileLock(path, poll_interval=0.0005):
                before = count[0]
                (tmp_path / "x").write_bytes(b"")  # lets the others in, were they not kept out
                count[0] = before + 1

    def tidy() -> None:
        while not ended.is_set():
            discard(path)

    with ThreadPoolExecutor() as pool:
        cleaner = pool.submit(tidy)
        try:
            wait([pool.submit(work) for _ in range(4)], timeout=60)
        finally:
            ended.set()
        cleaner.result(60)
    assert count == [400]


@pytest.mark.parametrize(
    "document", ["studies/tiny", "search/search-tiny", f"records/{'a' * 16}/record"]
)
def test_clean_stops_at_what_it_cannot_read(document: str, plan: StudyPlan, tmp_path: Path) -> None:
    write(tmp_path, plan, slice(0, 1))
    path = _old(tmp_path / f"{document}.json")
    with pytest.raises(InputError) as caught:
        find_removable(tmp_path)
    assert caught.value.source == path
