"""The store: records in an output folder by key, and studies and searches by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.files import pack_json, read, refuse_link, to_json, write_atomically
from passt_bench.records.run import Outcome, RunRecord, StudyRecord
from passt_bench.records.search import SearchRecord
from passt_bench.records.session import SessionRecord
from passt_bench.spec.codec import JSON_BYTES
from passt_bench.spec.key import is_key, plain_name

STUDIES, SEARCHES = "studies", "search"  # folders
MODEL = "model.safetensors"  # in the folder of its record
Record = RunRecord | SessionRecord | EvaluationRecord
Document = StudyRecord | SearchRecord
_FOLDERS = {StudyRecord: STUDIES, SearchRecord: SEARCHES}
Named = TypeVar("Named", StudyRecord, SearchRecord)
Kind = TypeVar("Kind", RunRecord, SessionRecord, EvaluationRecord)

_RUN = b'{"attempt":'
_MARKS: dict[bytes, type[SessionRecord] | type[EvaluationRecord]] = {
    b'"kind":"cost"': SessionRecord,
    b'"kind":"evaluation"': EvaluationRecord,
}
_outcomes: dict[Path, tuple[tuple[int, ...], Outcome]] = {}


class Store:
    """Reads and writes the records in one output folder (``--runs``, by default ``runs/``)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, key: str) -> Path:
        """The folder of one key; neither an invalid key nor a link is accepted."""
        folder = self.root.joinpath("records", plain_name(key, field="key"))
        refuse_link(folder)
        return folder

    def has(self, key: str) -> bool:
        """Whether the key has a final record."""
        return (self.folder(key) / "record.json").is_file()

    def has_model(self, key: str) -> bool:
        """Whether the model that the key's run trained was kept."""
        return (self.folder(key) / MODEL).is_file()

    def run(self, key: str) -> RunRecord | None:
        """The record of a quality cell, or None if there is none."""
        return self._final(RunRecord, key)

    def outcome(self, key: str) -> Outcome | None:
        """How a quality cell ended, or None if it has no record; read once per process."""
        path = self.folder(key) / "record.json"
        try:
            state = path.stat()
        except OSError:
            return None
        stamp = state.st_ino, state.st_mtime_ns, state.st_size
        if path not in _outcomes or _outcomes[path][0] != stamp:
            _outcomes[path] = stamp, read(Outcome, path)
        return _outcomes[path][1]

    def evaluation(self, key: str) -> EvaluationRecord | None:
        """The record of an evaluation, or None if there is none."""
        return self._final(EvaluationRecord, key)

    def kind(self, key: str) -> type[Record] | None:
        """The kind of the record under a key, or None if there is none."""
        path = self.folder(key) / "record.json"
        return _kind(path) if path.is_file() else None

    def _final(self, kind: type[Kind], key: str) -> Kind | None:
        path = self.folder(key) / "record.json"
        return read(kind, path) if path.is_file() else None

    def write(self, record: Record, samples: object = None) -> Path:
        """Writes a record; for a session, first its raw samples beside it."""
        folder = self.folder(record.key)
        if samples is not None:
            write_atomically(folder / "samples.json.gz", pack_json(samples))
        path = folder / "record.json"
        if isinstance(record, RunRecord) and record.attempt > 1:
            last = self.outcome(record.key)
            if last is not None and last.attempt < record.attempt:
                write_atomically(path.with_name(f"attempt-{last.attempt}.json"), path.read_bytes())
        write_atomically(path, to_json(record).encode())
        return path

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

    def _paths(self) -> list[Path]:
        return sorted((self.root / "records").glob("*/record.json"))

    def record_keys(self) -> list[str]:
        """The keys of all records; ignores folders with other names, such as copies."""
        return [path.parent.name for path in self._paths() if is_key(path.parent.name)]

    def sessions(self) -> list[SessionRecord]:
        """Every cost session, oldest first."""
        return self._all(SessionRecord)

    def evaluations(self) -> list[EvaluationRecord]:
        """Every evaluation, oldest first."""
        return self._all(EvaluationRecord)

    def _all(self, kind: type[Kind]) -> list[Kind]:
        found = [read(kind, path) for path in self._paths() if _kind(path) is kind]
        return sorted(found, key=lambda record: (record.finished, record.key))

    def study(self, name: str) -> StudyRecord:
        """The record of a study: its variants and their runs."""
        command = f"passt-bench run {name} --runs {self.root}"
        return _read_named(StudyRecord, name, self.root / STUDIES, "study", command)

    def studies(self) -> list[str]:
        """Names of the studies on record."""
        return document_names(self.root / STUDIES)

    def write_study(self, study: StudyRecord) -> None:
        """Writes the list of a study's runs, which may grow; never replaces a newer version's."""
        if study.name in self.studies():
            try:
                self.study(study.name)
            except InputError as error:
                if error.field == "schema":  # a newer version's; a broken one is replaced
                    raise
        write_document(study, self.root)


def read_record(path: Path, *, in_store: bool = True) -> Record:
    """Reads a record of any kind from a file, see `files.read`."""
    return read(_kind(path, in_store=in_store), path, in_store=in_store)


def _kind(path: Path, *, in_store: bool = True) -> type[Record]:
    """The kind of a record by a mark in its file, because parsing all runs would take seconds."""
    if in_store:
        refuse_link(path.parent, path)
    if not (path.is_file() and os.access(path, os.R_OK)):
        return RunRecord  # reading it reports what is wrong
    with path.open("rb") as file:
        # The fields are sorted, and only runs begin with this one; others have a mark.
        if file.read(len(_RUN)) == _RUN:
            return RunRecord
        rest = file.read(JSON_BYTES)
    return next((kind for mark, kind in _MARKS.items() if mark in rest), RunRecord)


def read_search(name: str, root: Path) -> SearchRecord:
    """Reads a search."""
    command = f"passt-bench search {name.removeprefix('search-')}"
    return _read_named(SearchRecord, name, root / SEARCHES, "search", command)


def document_names(folder: Path) -> list[str]:
    """The names of the studies or searches in a folder of them."""
    return sorted(path.stem for path in folder.glob("*.json"))


def write_document(record: Document, root: Path) -> Path:
    """Writes a study or search into an output folder, unless the same is there."""
    path = root / _FOLDERS[type(record)] / f"{plain_name(record.name, field='name')}.json"
    data = to_json(record).encode()
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)
    return path


def _read_named(kind: type[Named], name: str, folder: Path, field: str, command: str) -> Named:
    """Reads ``folder/NAME.json``, which a command makes."""
    path = folder / f"{name}.json"
    if not path.is_file():
        problem = f"no {field} of this name is on record"
        remedy = f"Run it first: {command}"
        raise InputError(problem, source=folder.parent, field=field, value=name, remedy=remedy)
    return read(kind, path)
