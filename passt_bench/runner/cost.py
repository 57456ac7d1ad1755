"""Cost sessions over recipes: step time, memory and FLOPs of the variants of a study, together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
from torch import nn

from passt_bench.console import Progress
from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.measure import target
from passt_bench.measure.machine import describe_machine, git_commit, library_versions
from passt_bench.measure.peaks import Size
from passt_bench.measure.session import MIN_ROUNDS, Arm, SessionResult, run_session
from passt_bench.measure.target import STEP, PublishedProtocol
from passt_bench.records.run import Status
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import Store
from passt_bench.registry import MODELS, installed_version
from passt_bench.runner import estimates
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.estimates import batch_size, summarize_model
from passt_bench.runner.prediction import Predictor
from passt_bench.spec.key import arm_key, component_versions, session_key
from passt_bench.spec.recipe import Patchout, Recipe

MEMORY_SHARE = 0.8  # of what is free now, for all arms of a session together
GPU_RESIDENT_SHARE = 0.5  # on a GPU, for what arms keep while they wait
ARM_SECONDS = 2.0  # process, checks of the machine, matmul peak, memory
WEIGHT_RATE = 15e6  # weights drawn per second
COMPILE_SECONDS = 60.0
_WARM_CHUNKS = 3  # two to four
_NO_MEMORY = ("inference_1", "frontend")  # phases whose memory is not recorded


@dataclass(frozen=True)
class CostPlan:
    """What is to be measured together on this machine, see `plan_cost`."""

    recipes: Mapping[str, Recipe]  # by key of the arm
    baseline: str  # key
    new: tuple[str, ...]  # keys of the arms to measure beside the baseline
    all_known: bool  # nothing is measured, not even the baseline
    classes: int
    machine: dict[str, object]
    versions: dict[str, str]
    published: PublishedProtocol | None


def plan_cost(
    recipes: Mapping[str, Recipe],
    baseline: str,
    classes: int,
    *,
    sessions: Iterable[SessionRecord] = (),
    retry: Collection[Status] = (),
    published: PublishedProtocol | None = None,
) -> CostPlan:
    """Finds out which arms are to be measured.

    Variants that differ in nothing that costs (see `spec.key.arm_key`) are one arm. An arm that was
    measured beside this baseline on this machine with these library versions, according to the
    ``sessions`` on record, is not measured again, unless it ended with a status in ``retry``.

    ``recipes`` are those of the variants, for models of so many classes; the ``measurement`` of the
    baseline's rules the session. ``published`` has the sizes of the reference code's speed test,
    which then follows the rounds.
    """
    keys = {name: arm_key(recipe, component_versions(recipe)) for name, recipe in recipes.items()}
    first, machine = keys[baseline], describe_machine()
    wrapped = {n for recipe in recipes.values() for n in MODELS.get(recipe.model.name).packages}
    installed = {name: installed_version(name) for name in sorted(wrapped)}
    versions = library_versions() | {name: found for name, found in installed.items() if found}
    known: set[str] = set()
    for session in sessions:
        same = session.machine == machine and session.versions == versions
        if same and session.baseline == first:
            arms = {arm.key: arm.status for arm in session.arms}
            if arms[first] not in retry:
                known |= {key for key, status in arms.items() if status not in retry}
    by_key = {keys[name]: recipe for name, recipe in recipes.items()}
    new = tuple(key for key in by_key if key != first and key not in known)
    nothing = not new and first in known
    return CostPlan(by_key, first, new, nothing, classes, machine, versions, published)


def estimate_cost_time(plan: CostPlan, predictor: Predictor) -> float:
    """The most seconds that `measure_cost` is expected to take; nan without a data sheet.

    On a GPU all arms count as one session: asking for its free memory would take hundreds of MiB
    of it, and cells may train there first.
    """
    first = plan.recipes[plan.baseline]
    gpu, spec = predictor.on_gpu(first.engine), first.measurement
    restarts = spec.processes(gpu=gpu)
    one = gpu and not plan.all_known
    sessions = [[plan.baseline, *plan.new]] if one else _groups(plan)

    def arm(recipe: Recipe) -> tuple[float, float]:
        """Seconds of one arm outside the rounds of all restarts, and per round."""
        facts, clips = summarize_model(recipe, plan.classes), batch_size(recipe)
        each = predictor.seconds_per_flop(recipe, plan.classes)
        cycle = max(1, len(facts.patchout.get("stages", ())))
        step = cycle * clips * facts.flops * each
        infer = (clips + 1) * facts.flops_inference * each  # of a batch, and of one clip
        warm = _WARM_CHUNKS * ((spec.warmup_steps + 1) // 2)
        start = ARM_SECONDS + facts.parameters / WEIGHT_RATE + warm * step + _WARM_CHUNKS * infer
        outside = restarts * start + (target.PEAK_STEPS + 1) * step + infer
        outside += COMPILE_SECONDS if recipe.engine.compile != "off" else 0.0
        if (test := plan.published) is not None:
            outside += (test.warmup + test.steps) * test.batch * facts.flops * each
        if gpu:
            calls = (step, infer / (clips + 1), infer * clips / (clips + 1))
            turns = [min(target.GPU_STEPS * s, target.GPU_SECONDS) for s in calls]
            return outside, target.GPU_WARM_STEPS * sum(calls) + sum(turns)
        return outside, spec.steps * step + 2 * infer  # inference runs twice, once untimed

    most = 0.0
    for keys in sessions:
        arms = [arm(plan.recipes[key]) for key in keys]
        apart, turns = (sum(seconds) for seconds in zip(*arms, strict=True))
        shortest = max(MIN_ROUNDS, restarts) * turns
        # On a GPU few rounds make ratios precise.
        longest = shortest if gpu else max(shortest, spec.seconds)
        most += apart + min(max(spec.most_rounds, restarts) * turns, longest)
    return most


def measure_cost(
    plan: CostPlan, store: Store, progress: Progress = lambda share, text: None
) -> list[SessionRecord]:
    """Measures arms and writes a record and raw samples of each session; returns the new sessions.

    There are several if the arms do not fit into the memory together, none if all is known.

    Raises:
        InputError: a recipe that cannot be built, see `runner.estimates.summarize_model`.
    """
    groups = _groups(plan)
    arms, before = sum(map(len, groups)), 0
    records: list[SessionRecord] = []

    def part(share: float, text: str) -> None:
        """The progress of one session as a part of that of all."""
        which = f"session {len(records) + 1} of {len(groups)}, " if len(groups) > 1 else ""
        progress((before + len(groups[len(records)]) * share) / arms, which + text)

    for group in groups:
        records.append(_measure(plan, group, store, part))
        before += len(group)
    if records:
        progress(1.0, "written")
    return records


def _groups(plan: CostPlan) -> list[list[str]]:
    """Splits arms into sessions, the baseline in each, that fit into the memory together.

    Arms take turns, and one that waits keeps only what is resident. An arm too large for that gets
    a session alone with the baseline, and shows whether it fits. On a GPU the high estimate of what
    a step needs would part arms that fit, so only half of the memory is kept free for it.
    """
    if plan.all_known:
        return []
    first = plan.recipes[plan.baseline]
    cuda = first.engine.device == "cuda"
    process = estimates.CUDA_BYTES if cuda else estimates.PROCESS_BYTES
    free = _free_bytes(first) * (GPU_RESIDENT_SHARE if cuda else MEMORY_SHARE)

    def need(recipe: Recipe) -> tuple[int, int]:
        """Resident bytes of an arm, and those of its step."""
        kept = process + 16 * summarize_model(recipe, plan.classes).parameters
        return kept, 0 if cuda else estimates.estimate_bytes(recipe, plan.classes) - kept

    # To count a step takes half a second; without patchout, which needs most, arms share a count.
    recipes = [plan.recipes[key] for key in (plan.baseline, *plan.new)]
    arms = [need(replace(recipe, patchout=Patchout())) for recipe in recipes]
    if sum(kept for kept, _ in arms) + max(own for _, own in arms) <= free:
        return [[plan.baseline, *plan.new]]
    groups, (resident, step) = [[plan.baseline]], need(first)
    for key in plan.new:
        kept, own = need(plan.recipes[key])
        if resident + kept + max(step, own) > free and len(groups[-1]) > 1:
            groups.append([plan.baseline])
            resident, step = need(first)
        groups[-1].append(key)
        resident, step = resident + kept, max(step, own)
    return groups


def _free_bytes(recipe: Recipe) -> int:
    if recipe.engine.device == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _measure(
    plan: CostPlan, group: Sequence[str], store: Store, progress: Progress
) -> SessionRecord:
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
        published=plan.published,
        progress=progress,
    )
    sheet = Predictor(store.root).sheet(recipe.engine)
    samples = {  # to the nanosecond: more digits are no information, and take space
        key: {
            phase: [[round(value, 9) for value in steps] for steps in rounds]
            for phase, rounds in arm.samples.items()
        }
        for key, arm in result.arms.items()
    }
    of_machine, finished = (plan.machine, plan.versions), datetime.now(UTC)
    key = session_key([*group], *of_machine)
    if store.has(key):  # measured again: records are never edited
        key = session_key([*group, finished.isoformat()], *of_machine)
    record = SessionRecord(
        key=key,
        baseline=plan.baseline,
        arms=tuple(_arm_record(key, plan, result, samples, store.root) for key in group),
        rounds=sum(result.restarts),
        restarts=result.restarts,
        steps=target.GPU_STEPS if recipe.engine.device == "cuda" else recipe.measurement.steps,
        published_protocol=asdict(plan.published) if plan.published else {},
        matmul_flops=result.peaks.get(recipe.engine),
        stated_flops=1e12 * sheet.tflops[recipe.engine.precision] if sheet else None,
        stated_source=sheet.source if sheet else "",
        machine=plan.machine,
        disturbance=result.disturbance,
        versions=plan.versions,
        commit=git_commit(),
        seconds=round(result.seconds, 1),
        finished=finished.isoformat(timespec="seconds"),
    )
    store.write(record, samples=samples)
    return record


def _sizes(recipe: Recipe, classes: int) -> tuple[Size, ...]:
    """The largest matrix multiplication of the baseline: tokens of a batch by its widest layer."""
    tokens = summarize_model(recipe, classes).tokens
    if not tokens:
        return ()
    net, *_ = estimates.on_meta(recipe, classes)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    widest = max(layers, key=lambda layer: layer.weight.numel())
    return ((batch_size(recipe) * tokens, widest.in_features, widest.out_features),)


def _arm_record(
    key: str,
    plan: CostPlan,
    result: SessionResult,
    samples: Mapping[str, dict[str, list[list[float]]]],
    runs: Path,
) -> ArmRecord:
    arm, recipe = result.arms[key], plan.recipes[key]
    facts, batch = summarize_model(recipe, plan.classes), batch_size(recipe)
    peak, fine = result.peaks.get(recipe.engine), arm.status == "ok"
    comparable = fine and result.arms[plan.baseline].status == "ok"
    phases = phase_intervals(samples[key], result.restarts) if fine else {}
    base, found = samples[plan.baseline], Predictor(runs).predict(recipe, plan.classes)
    return ArmRecord(
        key=key,
        status=arm.status,
        recipe=recipe,
        tokens=facts.tokens,
        tokens_full=facts.tokens_full,
        parameters=facts.parameters,
        batch_size=batch,
        phases=phases,
        ratios=ratio_intervals(samples[key], base, result.restarts) if comparable else {},
        memory={
            name.replace("inference_batch", "inference"): float(value)
            for name, value in arm.memory.items()
            if not name.startswith(_NO_MEMORY)
        },
        flops=facts.flops,
        flops_inference=facts.flops_inference,
        mfu=facts.flops * batch / phases[STEP].median / peak if peak and STEP in phases else None,
        attention=arm.attention,
        message=arm.message,
        compile_seconds=arm.compile_seconds,
        published=arm.published,
        predicted={STEP: found.seconds, "train_peak": found.bytes} if found else {},
    )
