"""The store: records in an output folder by key, and searches and comparisons by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.files import (
    Outcome,
    pack_json,
    read,
    read_outcome,
    refuse_link,
    to_json,
    write_atomically,
)
from passt_bench.records.run import RunRecord, StudyRecord
from passt_bench.records.search import SearchRecord
from passt_bench.records.session import ComparisonRecord, SessionRecord
from passt_bench.spec.key import is_key, plain_name

SEARCHES = "search"
COMPARISONS = "comparisons"
Record = RunRecord | SessionRecord | EvaluationRecord
Named = TypeVar("Named", SearchRecord, ComparisonRecord)

_RUN = b'{"attempt":'
_MARKS: dict[bytes, type[SessionRecord] | type[EvaluationRecord]] = {
    b'"kind":"cost"': SessionRecord,
    b'"kind":"evaluation"': EvaluationRecord,
}


class Store:
    """Reads and writes the records in one output folder (``--runs``, by default ``runs/``)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, key: str) -> Path:
        """The folder of one key.

        Raises:
            InputError: the key is not valid, or the folder is a link.
        """
        folder = self.root / "records" / plain_name(key, field="key")
        refuse_link(folder)
        return folder

    def has(self, key: str) -> bool:
        """Whether the key has a final record."""
        return (self.folder(key) / "record.json").is_file()

    def run(self, key: str) -> RunRecord | None:
        """The record of a quality cell, or None if there is none."""
        path = self.folder(key) / "record.json"
        return read(RunRecord, path) if path.is_file() else None

    def outcome(self, key: str) -> Outcome | None:
        """How a quality cell ended, or None if it has no record; faster than `run`."""
        path = self.folder(key) / "record.json"
        return read_outcome(path) if path.is_file() else None

    def evaluation(self, key: str) -> EvaluationRecord | None:
        """The record of an evaluation, or None if there is none."""
        path = self.folder(key) / "record.json"
        return read(EvaluationRecord, path) if path.is_file() else None

    def write(self, record: Record, samples: object = None) -> Path:
        """Writes a record; for a session, first its raw samples beside it."""
        folder = self.folder(record.key)
        if samples is not None:
            write_atomically(folder / "samples.json.gz", pack_json(samples))
        path = folder / "record.json"
        if isinstance(record, RunRecord) and record.attempt > 1:
            self._keep(record)
        write_atomically(path, to_json(record).encode())
        return path

    def _keep(self, following: RunRecord) -> None:
        """Keeps the record of an earlier attempt in a file of its own."""
        path = self.folder(following.key) / "record.json"
        last = self.outcome(following.key)
        if last is not None and last.attempt < following.attempt:
            write_atomically(path.with_name(f"attempt-{last.attempt}.json"), path.read_bytes())

    def attempts(self, key: str) -> list[RunRecord]:
        """The records of all attempts at a quality cell, in order."""
        last = self.run(key)
        earlier = [read(RunRecord, path) for path in self.folder(key).glob("attempt-*.json")]
        # After a merge of several machines, two attempts may have the same number.
        earlier.sort(key=lambda record: record.attempt)
        return [*earlier, *([last] if last is not None else [])]

    def records(self) -> Iterator[Record]:
        """Every record, by key."""
        for path in self._paths():
            yield read_record(path)

    def _paths(self, kind: type[Record] | None = None) -> list[Path]:
        found = sorted((self.root / "records").glob("*/record.json"))
        return [path for path in found if _kind(path) is kind] if kind else found

    def record_keys(self) -> list[str]:
        """The keys of all records; ignores folders with other names, such as copies."""
        return [path.parent.name for path in self._paths() if is_key(path.parent.name)]

    def is_session(self, key: str) -> bool:
        """Whether the record under a key is that of a cost session."""
        return _kind(self.folder(key) / "record.json") is SessionRecord

    def is_evaluation(self, key: str) -> bool:
        """Whether the record under a key is that of an evaluation."""
        return _kind(self.folder(key) / "record.json") is EvaluationRecord

    def sessions(self) -> list[SessionRecord]:
        """Every cost session, oldest first."""
        found = [read(SessionRecord, path) for path in self._paths(SessionRecord)]
        return sorted(found, key=lambda session: (session.finished, session.key))

    def evaluations(self) -> list[EvaluationRecord]:
        """Every evaluation, oldest first."""
        found = [read(EvaluationRecord, path) for path in self._paths(EvaluationRecord)]
        return sorted(found, key=lambda record: (record.finished, record.key))

    def study(self, name: str) -> StudyRecord:
        """The expansion of a study on record.

        Raises:
            InputError: no study of this name is on record.
        """
        path = self.root / "studies" / f"{name}.json"
        if not path.is_file():
            raise InputError(
                "no study of this name is on record",
                source=self.root,
                field="study",
                value=name,
                remedy=f"Run it first: passt-bench run {name} --runs {self.root}",
            )
        return read(StudyRecord, path)

    def studies(self) -> list[str]:
        """Names of the studies on record."""
        return _names(self.root / "studies")

    def write_study(self, study: StudyRecord) -> None:
        """Writes the expansion of a study; it may grow with later commands.

        Raises:
            InputError: a newer version of this package wrote the one on record, or the name is not
                valid.
        """
        path = self.root / "studies" / f"{plain_name(study.name, field='name')}.json"
        if path.is_file():
            try:
                read(StudyRecord, path)
            except InputError as error:
                if error.field == "schema":  # a broken one is replaced
                    raise
        data = to_json(study).encode()
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)


def read_record(path: Path, *, in_store: bool = True) -> Record:
    """Reads a record of any kind from a file.

    Args:
        path: path of the file.
        in_store: see `files.read`.

    Raises:
        InputError: `files.read` refuses the file.
    """
    try:
        kind = _kind(path, in_store=in_store)
    except OSError:
        return read(RunRecord, path, in_store=in_store)  # reports what is wrong
    return read(kind, path, in_store=in_store)


def _kind(path: Path, *, in_store: bool = True) -> type[Record]:
    """The kind of a record by a mark in its file, because parsing all runs would take seconds."""
    if in_store:
        refuse_link(path.parent, path)
    with path.open("rb") as file:
        # The fields are sorted, and only runs begin with this one; others have a mark.
        if file.read(len(_RUN)) == _RUN:
            return RunRecord
        rest = file.read()
    return next((kind for mark, kind in _MARKS.items() if mark in rest), RunRecord)


def search_names(root: Path) -> list[str]:
    """The names of the searches in an output folder."""
    return _names(root / SEARCHES)


def write_search(record: SearchRecord, root: Path) -> Path:
    """Writes a search into an output folder; it may grow with later commands."""
    return _write_named(record, root / SEARCHES)


def read_search(name: str, root: Path) -> SearchRecord:
    """Reads a search.

    Raises:
        InputError: there is none of that name, or its file is broken or of a newer schema.
    """
    return _read_named(
        SearchRecord,
        name,
        root / SEARCHES,
        field="search",
        missing=f"Run it first: passt-bench search {name.removeprefix('search-')}",
        remedy="Remove the file and run the search again; its trials are kept.",
    )


def comparison_names(root: Path) -> list[str]:
    """The names of the comparisons in an output folder."""
    return _names(root / COMPARISONS)


def write_comparison(record: ComparisonRecord, root: Path) -> Path:
    """Writes a comparison into an output folder; replaces one with the same name."""
    return _write_named(record, root / COMPARISONS)


def read_comparison(name: str, root: Path) -> ComparisonRecord:
    """Reads a comparison.

    Raises:
        InputError: there is none of that name, or its file is broken or of a newer schema.
    """
    return _read_named(
        ComparisonRecord,
        name,
        root / COMPARISONS,
        field="comparison",
        missing="Run it first: passt-bench compare A B … --name NAME",
        remedy="Remove the file and compare again; the sessions are kept.",
    )


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json"))


def _write_named(record: SearchRecord | ComparisonRecord, folder: Path) -> Path:
    path = folder / f"{plain_name(record.name, field='name')}.json"
    write_atomically(path, to_json(record).encode())
    return path


def _read_named(
    kind: type[Named], name: str, folder: Path, *, field: str, missing: str, remedy: str
) -> Named:
    """Reads ``folder/NAME.json``; the remedies are for a missing and for a broken file.

    Raises:
        InputError: there is none of this name, or `files.read` refuses its file.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise InputError(
            f"no {field} of this name is on record",
            source=folder.parent,
            field=field,
            value=name,
            remedy=missing,
        )
    return read(kind, path, remedy=remedy)
