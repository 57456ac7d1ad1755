"""Commands about trained models: predict, evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

import typer

from passt_bench.cli import options
from passt_bench.cli.options import app, argument, console, error_console, flag, option
from passt_bench.console import one_line, stage, visible

_NAMELESS = (
    "note: the model file contains no class names, so classes are numbered. Give their names with "
    "--labels FILE, one per line."
)
_NO_THRESHOLDS = (
    "note: there are no thresholds of these classes in the model file, as training chooses them on "
    "a validation split that is not small, or there are several models: each counts from 0.5 on."
)
_SHOWN = 10  # classes per file in text


@app.command()
def predict(
    audio: Annotated[list[Path], argument("AUDIO…", "Audio files, or folders of them.")],
    checkpoint: options.Checkpoints = None,
    form: Annotated[
        Literal["text", "csv", "json"], option("NAME", "text, csv or json.", "--format")
    ] = "text",
    top: Annotated[
        int | None, option("N", "Classes per file; by default 10 in text, else all.", min=1)
    ] = None,
    hop: Annotated[
        float | None,
        option(
            "SECONDS",
            "Hop between windows; by default no overlap.",
            callback=options.number("seconds"),
        ),
    ] = None,
    windows: Annotated[
        bool, flag("--windows", "Predict each window of a file, with its start and end.")
    ] = False,
    pool: Annotated[
        Literal["mean", "max"], option("NAME", "mean or max over a file's windows.")
    ] = "mean",
    decide: Annotated[
        bool,
        flag("--decide", "Give only the classes a file has: the most probable, or by thresholds."),
    ] = False,
    embeddings: Annotated[
        Path | None,
        option(
            "FILE",
            "Also write what the classifier gets of each window, as NumPy's .npz.",
            callback=options.check_new_file,
        ),
    ] = None,
    device: options.Device = "cpu",
    labels: options.Labels = None,
    patchout: options.Dropped = None,
    output: Annotated[
        Path | None,
        option("FILE", "File to write instead of printing.", callback=options.check_new_file),
    ] = None,
    runs: options.NewRuns = options.RUNS,
    quiet: options.Quiet = False,
) -> None:
    """Predict the classes of audio files, with probabilities or as decisions."""
    from passt_bench import spec
    from passt_bench.data.tables import read_vocabulary
    from passt_bench.models.ensemble import build_ensemble
    from passt_bench.records.files import writing
    from passt_bench.records.run import count_of
    from passt_bench.runner import predict as runner
    from passt_bench.runner.kept_models import find_model
    from passt_bench.spec.study import parse_patchout
    from passt_bench.training.engine import Engine
    from passt_bench.vocabulary import are_numbers

    paths, skipped = runner.find_audio(audio)
    models = [find_model(name, runs) for name in checkpoint or [""]]
    ensemble = build_ensemble(models if len(models) > 1 else models[0])
    if labels is not None:
        ensemble.rename(read_vocabulary(labels))
    ensemble.drop(parse_patchout(patchout) or spec.Patchout())
    engine, errors = Engine(spec.validate(spec.EngineSpec, {"device": device})), error_console()
    if skipped:
        errors.print(f"note: files without an ending of audio were skipped: {skipped}.")
    if labels is None and are_numbers(ensemble.classes):
        errors.print(_NAMELESS)
    if decide and ensemble.multi_label and ensemble.thresholds is None:
        errors.print(_NO_THRESHOLDS)
    most = top or (_SHOWN if form == "text" and not decide else None)
    write = {"text": runner.as_text, "csv": runner.as_csv, "json": runner.as_json}[form]
    if form == "csv":
        write = partial(runner.as_csv, dropped=ensemble.patchout.kind != "none")
    failures: list[str] = []
    cancelled: list[str] = []
    embedded: list[tuple[str, runner.Windows]] = []

    def noted(results: Iterator[runner.Prediction]) -> Iterator[runner.Prediction]:
        for result in results:
            failures.extend([result.error] if result.error else [])
            found = [note for note in result.notes if note.startswith(runner.CANCELLED)]
            cancelled.extend(f"{result.file}: {note}" for note in found)
            embedded.extend([] if result.error else [(result.file, result.windows)])
            yield result

    # Printed at the end, because progress is shown meanwhile.
    with TemporaryFile() as rows, TemporaryFile() if output is None else writing(output) as out:
        with stage(errors, f"Predicting {count_of(len(paths), 'file')}") as update:
            given = ensemble.to(device), paths, hop, engine, pool
            kept = rows if windows or embeddings else None
            found = runner.predict_files(*given, decide=decide, rows=kept, progress=update)
            for text in write(noted(found), most, windows):
                out.write(text.encode(errors="backslashreplace"))
        if embeddings is not None:
            runner.write_npz(embeddings, embedded)
            count = sum(len(windows) for _, windows in embedded)
            errors.print(f"Embeddings of {count_of(count, 'window')}: {embeddings}")
        if output is None:
            out.seek(0)
            for line in out:
                text = line.decode()
                options.print_data(visible(text) if form == "text" else text)
    if output is not None:
        console.print(f"Predictions for {count_of(len(embedded), 'file')}: {output}")
    for note in cancelled if form == "csv" else ():
        errors.print(f"note: {one_line(note)}.")
    for failure in failures:
        errors.print(f"error: {one_line(failure)}", style="red")
    if failures:
        raise typer.Exit(1)


@app.command()
def evaluate(
    data: Annotated[str, option("NAME=DIR", "A data set; NAME alone if in PASST_BENCH_DATA.")],
    checkpoint: options.Checkpoints = None,
    metrics: Annotated[
        list[str] | None, option("NAME,…", "Metrics; by default those of the data set.")
    ] = None,
    split: Annotated[str, option("NAME", "Split: test, validation or train.")] = "test",
    fold: Annotated[
        int | None, option("N", "Fold to hold out, of data with folds; by default the model's own.")
    ] = None,
    device: options.Device = "cpu",
    batch: Annotated[int, option("N", "Clips per batch.", min=1)] = 8,
    labels: options.Labels = None,
    patchout: options.Dropped = None,
    against: Annotated[
        str | None, option("MODEL", "Another model (or set) to compare with on the same clips.")
    ] = None,
    margin: Annotated[
        float | None,
        option(
            "SIZE",
            "Margin of mAP and accuracy, by default 0.02; others are never called the same.",
            callback=options.number("a size", 0, 1),
        ),
    ] = None,
    against_patchout: Annotated[
        str | None,
        option("KIND:RATE", "Patchout (or none) of the --against model, or of the same again."),
    ] = None,
    json: options.Json = False,
    runs: options.NewRuns = options.RUNS,
    reports: options.Reports = None,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate model files on a data set; each metric gets an interval."""
    from passt_bench.data.tables import read_vocabulary
    from passt_bench.records.run import count_of
    from passt_bench.report import build, tables, terminal
    from passt_bench.report import evaluations as report
    from passt_bench.runner.evaluation import evaluate_checkpoints
    from passt_bench.runner.kept_models import find_model
    from passt_bench.runner.request import Paths
    from passt_bench.spec.study import parse_patchout

    held = data.partition("=")[0], fold
    with stage(error_console() if json else console, "Evaluating") as update:
        record, fresh = evaluate_checkpoints(
            [find_model(name, runs, held_out=held) for name in checkpoint or [""]],
            data,
            runs,
            against=find_model(against, runs, "--against", held) if against else None,
            margin=margin,
            metrics=options.listed(metrics),
            split="valid" if split == "validation" else split,
            fold=fold,
            device=device,
            batch=batch,
            classes=read_vocabulary(labels) if labels is not None else None,
            patchout=parse_patchout(patchout),
            against_patchout=parse_patchout(against_patchout, "--against-patchout"),
            progress=update,
        )
    reports = Paths(runs, pages=reports).reports
    pages = build.build_evaluations(runs, reports)
    build.render_index(reports)
    place, notes = runs / "records" / record.key / "record.json", record.fingerprint.notes
    notes += record.notes
    if json:
        made = {"evaluations": report.evaluations_table, "comparisons": report.comparisons_table}
        made["decisions"] = report.decisions_table
        rows = {name: tables.to_rows(table([record])) for name, table in made.items()}
        found = {"record": str(place), "page": str(pages[0]), "notes": notes}
        return options.print_json({**found, "clocks": record.clocks, "tables": rows})
    if not fresh:
        console.print(f"Already evaluated on {record.finished}; shown from the record.")
    title = report.title_of(record)
    console.print(f"{title}: {count_of(record.clips, 'clip')} of {report.data_of(record)}")
    if patchout is not None and record.patchout is None:
        console.print(f"--patchout {patchout} drops no patch of this model.")
    hidden = ("checkpoints", "data", "clips", "source")
    table, packed = report.evaluations_table([record]), not record.published  # a wide column less
    terminal.print_table(console, table, caption="", without=hidden, packed=packed)
    console.print("Brackets: 95 % intervals over clips, without the variation between trainings.")
    if record.decisions is not None:
        terminal.print_decisions(console, record)
    if record.against is not None:
        compared = report.comparisons_table([record])
        # With these columns, intervals would be broken over lines.
        omit = ("first", "data", "clips", "only_first", "only_second")
        terminal.print_table(console, compared, without=omit, packed=True)
        for name, item in record.against.differences.items():
            if item.only_first is not None:
                only = f"only A is right on {count_of(item.only_first, 'clip')}"
                console.print(f"{name}: {only}, only B on {item.only_second}.")
    if time := report.clip_time(record):
        console.print(f"Time: {time}, for front end and model.")
    for source in dict.fromkeys(result.source for result in record.published):
        console.print(f"Published: {source}.")
    for note in notes:
        console.print(f"Note: {note}.")
    console.print(f"Record: {place}")
    return console.print(f"Page: {pages[0]}")
