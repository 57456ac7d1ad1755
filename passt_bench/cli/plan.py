"""Commands that come before a run: list, plan."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Column, Table

from passt_bench.cli import options
from passt_bench.cli.options import app, argument, asks_for_study, console, flag, option, print_json
from passt_bench.errors import InputError, check_known

if TYPE_CHECKING:
    from passt_bench.records.run import VariantRecord
    from passt_bench.runner.plan import StudyPlan
    from passt_bench.runner.prediction import Predictor
    from passt_bench.runner.request import Paths, StudyRequest

_HOURS_FROM = 6000  # seconds of a run, from which on they are shown in hours


@app.command("list")
def list_(
    what: Annotated[
        str,
        argument(
            "WHAT",
            "studies, models, frontends, datasets, patchout, metrics, figures, or fields (of the "
            "recipe, with their defaults).",
        ),
    ] = "studies",
    json: options.Json = False,
) -> None:
    """List the available studies, models, data sets and other components."""
    from passt_bench import registry
    from passt_bench.runner.studies import load_study, study_names
    from passt_bench.spec.codec import meanings
    from passt_bench.spec.recipe import Recipe

    kinds = ("models", "frontends", "datasets", "patchout", "metrics", "figures")
    tables = dict(zip(kinds, registry.ALL, strict=True))
    check_known(what, ("studies", *tables, "fields"), "cannot be listed", field="WHAT")
    if what == "fields":
        rows = list(meanings(Recipe()))
    elif what != "studies":
        rows = [(item.name, item.summary) for item in tables[what].all()]
    else:
        rows = []
        for name in study_names():
            try:
                study = load_study(name).study
                minutes = f" (about {study.minutes:g} min)" if study.minutes else ""
                rows.append((name, study.question + minutes))
            except InputError as error:  # a broken file of the user does not hide the others
                rows.append((name, f"cannot be loaded: {error}"))
    if json:
        print_json([{"name": name, "summary": text} for name, text in rows])
        return
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}")


@app.command()
@asks_for_study
def plan(
    request: "StudyRequest",
    paths: "Paths",
    workers: options.Workers = options.CORES,
    per_gpu: options.PerGpu = 1,
    gpu: Annotated[
        str | None, option("NAME", "Predict costs on this GPU from its data sheet, e.g. H100.")
    ] = None,
    utilization: Annotated[
        float, option("FRACTION", "Share of the GPU's peak that is assumed.", min=0.01, max=1)
    ] = 0.5,
    calibrate: Annotated[
        bool, flag("--calibrate", "Measure this machine for predictions, which --runs keeps.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what a study would run and how long it would take, without running it."""
    file = options.load_file(request, paths)
    from passt_bench.analysis import noise
    from passt_bench.paper import published_numbers
    from passt_bench.records.store import Store
    from passt_bench.runner.plan import describe_data, plan_request
    from passt_bench.runner.prediction import Predictor
    from passt_bench.runner.request import RunConfig
    from passt_bench.runner.studies import shipped_folder
    from passt_bench.study_run import describe, warn_of_unused_cuda

    config = RunConfig(workers=workers, per_gpu=per_gpu)
    predictor = Predictor(paths.runs, gpu, utilization)
    study = plan_request(file, request, paths, listed=True)
    if calibrate:
        _calibrate(study, paths.runs)
    published = published_numbers(file.study.name)
    rows = [_planned(study, v, predictor, published) for v in study.record.variants]
    design = ""
    if study.record.seeds:
        kept = [Store(paths.runs), Store(shipped_folder().parent / "reports" / noise.STUDY)]
        design = noise.design_sentence(study.record, noise.known_floor(study.record, kept))
    summary = describe(study, Store(paths.runs), config, predictor=predictor)
    if json:
        about = {"study": study.record.name, "question": study.study.question}
        return print_json({**about, "variants": rows, "design": design, "summary": summary})
    _print_plan(rows)
    _print_predictions(study, predictor, rows)
    here = study.absent is not None and study.absent.name in paths.data  # only weights are not
    if study.record.seeds and not here:
        console.print(describe_data(study.record.fingerprint, study.absent))
    if design:
        console.print(design)
    console.print(summary)
    if paths.runs != options.RUNS and not paths.runs.exists():
        console.print(f"{paths.runs} does not exist yet; a run creates it.")
    return warn_of_unused_cuda(study, request, console)


def _planned(
    study: "StudyPlan",
    variant: "VariantRecord",
    predictor: "Predictor",
    published: Mapping[str, float],
) -> dict[str, Any]:
    """What is planned and predicted of a variant, under the names that JSON has."""
    from passt_bench.runner.estimates import batch_size, summarize_model

    recipe, classes = variant.recipe, len(study.record.fingerprint.classes)
    runs, seconds = study.expected(variant, predictor)
    found = predictor.predict(recipe, classes)
    return {
        "variant": variant.name,
        "grid": variant.grid,
        "dropped": variant.patchout.get("rate"),
        "schedule": recipe.patchout.schedule,
        "tokens": variant.tokens,
        "tokens_full": variant.tokens_full,
        "flops_per_clip": summarize_model(recipe, classes).flops,
        "batch": batch_size(recipe),
        "epochs": variant.spent.get("epochs"),
        "runs": runs,
        "seconds_per_run": None if isnan(seconds) else seconds,
        "published": published.get(variant.name),
        "step_seconds": found and found.seconds,
        "peak_bytes": found and found.bytes,
        "largest_batch": found and predictor.largest_batch(recipe, classes),
    }


def _print_plan(rows: Sequence[Mapping[str, Any]]) -> None:
    longest = max(len(word) for row in rows for word in row["variant"].split())
    spent = len({round(row["epochs"] or 0.0, 2) for row in rows}) > 1
    runs, published = any(row["runs"] for row in rows), any(row["published"] for row in rows)
    hours = any((row["seconds_per_run"] or 0.0) >= _HOURS_FROM for row in rows)
    unit, size, digits = ("hours", 3600, 1) if hours else ("min", 60, 2)
    table = Table(
        Column("variant", min_width=min(longest, 16), overflow="fold"),
        *("grid", "patches\ndropped", "tokens", "GFLOP\nper clip"),
        *(["epochs"] if spent else []),
        *(["runs", f"{unit}\nper run"] if runs else ["clips\nper step"]),
        *(["pub-\nlished"] if published else []),
    )
    for row in rows:
        suffix = f", {row['schedule']}" if row["schedule"] != "constant" else ""
        each = row["seconds_per_run"]
        each = "-" if each is None else f"{each / size:.{digits}f}"
        table.add_row(
            row["variant"],
            "{} x {}".format(*row["grid"]) if row["grid"] else "-",
            f"{100 * row['dropped']:.1f} %{suffix}" if row["dropped"] is not None else "-",
            f"{row['tokens']} of {row['tokens_full']}" if row["grid"] else "-",
            f"{row['flops_per_clip'] / 1e9:.3f}",
            *([f"{row['epochs'] or 0:.1f}"] if spent else []),
            *([str(row["runs"]), each] if runs else [str(row["batch"])]),
            *([f"{row['published']:g}"] if published else []),
        )
    console.print(table)


def _calibrate(study: "StudyPlan", runs: "Path") -> None:
    """Calibrates this machine for the engines of a study that it is not calibrated for."""
    from passt_bench.console import stage
    from passt_bench.report.provenance import engine_text
    from passt_bench.runner.prediction import calibrate, kept_calibration

    for engine in dict.fromkeys(variant.recipe.engine for variant in study.record.variants):
        if kept_calibration(runs, engine) is None:
            with stage(console, f"Calibrating: {engine_text(engine)}") as update:
                calibrate(runs, engine, update)


def _print_predictions(
    study: "StudyPlan", predictor: "Predictor", rows: Sequence[Mapping[str, Any]]
) -> None:
    """Prints the predicted cost of a step of each variant, and the largest batch that fits."""
    table = Table(
        "variant", "ms\nper step", "clips\nper s", "memory of\na step, MB", "largest\nbatch"
    )
    for row, variant in zip(rows, study.record.variants, strict=True):
        recipe = variant.recipe
        if row["step_seconds"] is None:
            text = "Rough: not calibrated on this machine; --calibrate does it in half a minute."
            if predictor.on_gpu(recipe.engine):
                text = f"No data sheet of the GPU with its peak in {recipe.engine.precision}."
            return console.print(text)
        table.add_row(
            row["variant"],
            f"{1000 * row['step_seconds']:.1f}",
            f"{row['batch'] / row['step_seconds']:.1f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            str(row["largest_batch"]),
        )
    console.print(f"Predicted cost of a training step, {predictor.basis(recipe.engine)}:")
    console.print(table)
    recipes = [variant.recipe for variant in study.record.variants]
    if any(predictor.on_gpu(r.engine) and r.engine.attention == "materialised" for r in recipes):
        text = "An attention matrix in memory makes a step up to twice as long as predicted here."
        console.print(text)
    return None
