"""Cost sessions over recipes: step time, memory and FLOPs of the variants of a study, together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
from torch import nn

from passt_bench.console import Progress
from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.measure.arm import Arm
from passt_bench.measure.flops import Size, stated_peak
from passt_bench.measure.machine import describe_machine, git_commit, library_versions
from passt_bench.measure.session import ArmResult, SessionResult, run_session
from passt_bench.measure.target import GPU_STEPS, STEP, PublishedProtocol
from passt_bench.models import from_recipe
from passt_bench.models.frontend import frame_count
from passt_bench.records.run import Status
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.estimates import (
    Foreseen,
    batch_size,
    foresee,
    foreseen_bytes,
    summarize_model,
)
from passt_bench.runner.locks import MERGE, lock
from passt_bench.spec.key import arm_key, component_versions, session_key
from passt_bench.spec.recipe import Recipe

MEMORY_SHARE = 0.8  # of what is free now, for all arms of a session together
_MEMORY = {
    "train_peak": "train_peak",
    "train_rise": "train_rise",
    "inference_batch_peak": "inference_peak",
    "inference_batch_rise": "inference_rise",
    "saved_for_backward": "saved_for_backward",
    "resident": "resident",
    "reserved": "reserved",
    "peak_not_reset": "peak_not_reset",
}


@dataclass(frozen=True)
class _Plan:
    """Arms by key, all on one machine; with the sizes of the published speed test it follows."""

    recipes: Mapping[str, Recipe]
    baseline: str
    classes: int
    machine: dict[str, object]
    versions: dict[str, str]
    published: PublishedProtocol | None = None
    profiles: Path | None = None

    @property
    def others(self) -> list[str]:
        """Keys of all arms but the baseline."""
        return [key for key in self.recipes if key != self.baseline]

    @property
    def gpus(self) -> list[str]:
        """The driver's names of the GPUs."""
        return [str(name) for name in self.machine.get("gpus", ())]  # type: ignore[attr-defined]


def measure_cost(
    recipes: Mapping[str, Recipe],
    baseline: str,
    classes: int,
    store: Store,
    *,
    retry: Collection[Status] = (),
    progress: Progress | None = None,
) -> list[SessionRecord]:
    """Measures what variants cost and writes a record and raw samples of each session.

    Variants that differ in nothing that costs (see `spec.key.arm_key`) are one arm. An arm that was
    measured beside this baseline on this machine with these library versions is not measured
    again; the others open a new session [baseline, new ...], or several where they do not fit
    into the memory together.

    Args:
        recipes: variant → recipe; the baseline's ``measurement`` rules the session.
        baseline: variant that ratios are taken to.
        classes: outputs of the models.
        store: where sessions are looked for and written.
        retry: statuses of arms that are to be tried again.
        progress: called with the share that is done, 1 once all is written, and a few words.

    Returns:
        The new sessions, none if everything is known.

    Raises:
        InputError: a recipe that cannot be built, see `runner.estimates.summarize_model`.
    """
    plan = _plan(recipes, baseline, classes)
    new = _missing(plan, store, retry)
    if new is None:
        return []
    return _measure_all(plan, new, store, progress)


def foresee_cost(
    recipes: Mapping[str, Recipe],
    baseline: str,
    classes: int,
    store: Store,
    *,
    retry: Collection[Status] = (),
) -> Foreseen:
    """What `measure_cost` will take with these arguments; nothing where everything is known.

    On CUDA all arms count as one session: asking the GPU for its free memory would take hundreds
    of MiB of it, and cells may train there first.
    """
    plan = _plan(recipes, baseline, classes)
    new = _missing(plan, store, retry)
    if new is None:
        return Foreseen()
    cuda = recipes[baseline].engine.device == "cuda"
    return _foresee(plan, [[plan.baseline, *new]] if cuda else _groups(plan, new))


def _foresee(plan: _Plan, groups: Sequence[Sequence[str]]) -> Foreseen:
    return foresee(
        [[plan.recipes[key] for key in group] for group in groups],
        plan.classes,
        plan.recipes[plan.baseline].measurement,
        gpu=next(iter(plan.gpus), None),
        published=plan.published,
        profile=plan.profiles is not None,
    )


def foresee_now(
    recipes: Mapping[str, Recipe],
    classes: int,
    *,
    published: PublishedProtocol | None = None,
    profiles: Path | None = None,
) -> Foreseen:
    """What `measure_now` will take with these arguments."""
    plan = _plan(recipes, next(iter(recipes)), classes, published, profiles)
    return _foresee(plan, _groups(plan, plan.others))


def measure_now(
    recipes: Mapping[str, Recipe],
    classes: int,
    store: Store,
    *,
    published: PublishedProtocol | None = None,
    profiles: Path | None = None,
    progress: Progress | None = None,
) -> list[SessionRecord]:
    """Measures recipes side by side, even if they are on record; writes and returns sessions.

    Args:
        recipes: arm → recipe; ratios are taken to the first.
        classes: outputs of the models.
        store: where sessions are written.
        published: sizes of the reference code's speed test, which then follows the rounds.
        profiles: folder for a profile of each arm, named by its key.
        progress: called with the share that is done, 1 once all is written, and a few words.
    """
    plan = _plan(recipes, next(iter(recipes)), classes, published, profiles)
    return _measure_all(plan, plan.others, store, progress)


def _plan(
    recipes: Mapping[str, Recipe],
    baseline: str,
    classes: int,
    published: PublishedProtocol | None = None,
    profiles: Path | None = None,
) -> _Plan:
    keys = {name: arm_key(recipe, component_versions(recipe)) for name, recipe in recipes.items()}
    arms = {keys[name]: recipe for name, recipe in recipes.items()}
    return _Plan(
        arms, keys[baseline], classes, describe_machine(), library_versions(), published, profiles
    )


def _missing(plan: _Plan, store: Store, retry: Collection[Status]) -> list[str] | None:
    """Keys of the arms to measure with the baseline; None where nothing is to be measured."""
    known = _known(plan, store, retry)
    new = [key for key in plan.others if key not in known]
    return None if not new and plan.baseline in known else new


def _measure_all(
    plan: _Plan, new: Sequence[str], store: Store, progress: Progress | None
) -> list[SessionRecord]:
    """One session after the other; each has its arms' share of the progress."""
    groups = _groups(plan, new)
    arms = sum(map(len, groups))
    progress = progress or (lambda share, text: None)
    records: list[SessionRecord] = []
    for number, group in enumerate(groups):
        before = sum(map(len, groups[:number]))
        which = f"session {number + 1} of {len(groups)}, " if len(groups) > 1 else ""

        def report(
            share: float,
            text: str,
            before: int = before,
            mine: int = len(group),
            which: str = which,
        ) -> None:
            """Reports the share of one session as that of all."""
            progress((before + mine * share) / arms, which + text)

        records.append(_measure(plan, group, store, report))
    progress(1.0, "written")
    return records


def _known(plan: _Plan, store: Store, retry: Collection[Status]) -> set[str]:
    """Keys of the arms that a session on record has with this baseline on this machine."""
    known: set[str] = set()
    for session in store.sessions():
        same = session.machine == plan.machine and session.versions == plan.versions
        if same and session.baseline == plan.baseline:
            arms = {arm.key: arm.status for arm in session.arms}
            if arms[plan.baseline] not in retry:
                known |= {key for key, status in arms.items() if status not in retry}
    return known


def _groups(plan: _Plan, new: Sequence[str]) -> list[list[str]]:
    """Splits arms into sessions, the baseline in each, that fit into the memory together.

    An arm too large for that gets a session alone with the baseline, and shows whether it fits.
    """
    first = plan.recipes[plan.baseline]
    free = _free_bytes(first) * MEMORY_SHARE
    base = foreseen_bytes(first, plan.classes)
    groups, used = [[plan.baseline]], base
    for key in new:
        need = foreseen_bytes(plan.recipes[key], plan.classes)
        if used + need > free and len(groups[-1]) > 1:
            groups.append([plan.baseline])
            used = base
        groups[-1].append(key)
        used += need
    return groups


def _free_bytes(recipe: Recipe) -> int:
    if recipe.engine.device == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _measure(plan: _Plan, group: Sequence[str], store: Store, progress: Progress) -> SessionRecord:
    """Runs one session and writes it."""
    recipe = plan.recipes[plan.baseline]
    result = run_session(
        [
            Arm(key, RecipeFactory(plan.recipes[key], plan.classes), plan.recipes[key].engine)
            for key in group
        ],
        plan.baseline,
        recipe.measurement,
        sizes=_sizes(recipe, plan.classes),
        preload=("passt_bench.runner.benchmark_target",),
        published=plan.published,
        profiles=plan.profiles,
        progress=progress,
    )
    cuda = recipe.engine.device == "cuda" and plan.gpus
    stated = (stated_peak(plan.gpus[0], recipe.engine.precision) if cuda else None) or (None, "")
    record = SessionRecord(
        key="",
        baseline=plan.baseline,
        arms=tuple(_arm_record(key, plan, result) for key in group),
        rounds=result.rounds,
        steps=GPU_STEPS if cuda else recipe.measurement.steps,
        published_protocol=asdict(plan.published) if plan.published else {},
        matmul_flops=result.peaks.get(recipe.engine),
        stated_flops=stated[0],
        stated_source=stated[1],
        machine=plan.machine,
        disturbance=result.disturbance,
        versions=plan.versions,
        commit=git_commit(),
        seconds=round(result.seconds, 1),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    samples = {key: _rounded(arm) for key, arm in result.arms.items()}
    with lock(store.root, MERGE).acquire(timeout=-1):  # or another session might have the key
        record = replace(record, key=_free_key(plan, group, store))
        store.write(record, samples=samples)
    return record


def _sizes(recipe: Recipe, classes: int) -> tuple[Size, ...]:
    """The largest product of the baseline's blocks: tokens of a batch by its widest layer."""
    tokens = summarize_model(recipe, classes).tokens
    if not tokens:
        return ()
    with torch.device("meta"):
        frames = frame_count(recipe.frontend, recipe.data.seconds)
        net = from_recipe(recipe, classes, frames)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    widest = max(layers, key=lambda layer: layer.weight.numel())
    return ((batch_size(recipe) * tokens, widest.in_features, widest.out_features),)


def _free_key(plan: _Plan, group: Sequence[str], store: Store) -> str:
    """The session's key; a repeated session gets one of its own, for records are never edited."""
    arms, attempt = list(group), 1
    key = session_key(arms, plan.machine, plan.versions)
    while store.has(key):
        attempt += 1
        key = session_key([*arms, f"attempt {attempt}"], plan.machine, plan.versions)
    return key


def _rounded(arm: ArmResult) -> dict[str, list[list[float]]]:
    """Raw samples to the nanosecond: more digits are no information, and take space."""
    return {
        phase: [[round(value, 9) for value in steps] for steps in rounds]
        for phase, rounds in arm.samples.items()
    }


def _arm_record(key: str, plan: _Plan, result: SessionResult) -> ArmRecord:
    arm, recipe = result.arms[key], plan.recipes[key]
    facts = summarize_model(recipe, plan.classes)
    baseline = result.arms[plan.baseline]
    samples = _rounded(arm)
    fine = arm.status == "ok"
    phases = phase_intervals(samples) if fine else {}
    batch = batch_size(recipe)
    peak = result.peaks.get(recipe.engine)
    return ArmRecord(
        key=key,
        status=arm.status,
        recipe=recipe,
        tokens=facts.tokens,
        tokens_full=facts.tokens_full,
        parameters=facts.parameters,
        batch_size=batch,
        phases=phases,
        ratios=(
            ratio_intervals(samples, _rounded(baseline)) if fine and baseline.status == "ok" else {}
        ),
        memory={new: float(arm.memory[old]) for old, new in _MEMORY.items() if old in arm.memory},
        flops=facts.flops,
        flops_inference=facts.flops_inference,
        mfu=facts.flops * batch / phases[STEP].median / peak if peak and STEP in phases else None,
        attention=arm.attention,
        message=arm.message,
        compile_seconds=arm.compile_seconds,
        published=arm.published,
    )
