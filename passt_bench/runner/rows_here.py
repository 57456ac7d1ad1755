"""What this machine has of what rows of published tables need, and what it has run of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from passt_bench.errors import InputError
from passt_bench.models.weights import PUBLISHED, locate
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.store import Store
from passt_bench.runner.prepare import data_folders
from passt_bench.runner.studies import load_rows, study_names
from passt_bench.spec.rows import Available, Row


def find_available(data: Iterable[str] = (), weights: Iterable[str] = ()) -> Available:
    """What this machine has of what rows need.

    Args:
        data: folders of data sets, ``NAME=DIR``, beside those of ``PASST_BENCH_DATA``.
        weights: names or files to look for beside the published ones.

    Raises:
        InputError: an item of ``data`` that is not ``NAME=DIR``.
    """
    found = frozenset(name for name in {*PUBLISHED, *weights} if _is_here(name))
    return Available(frozenset(data_folders(list(data))), found, torch.cuda.is_available())


def _is_here(weights: str) -> bool:
    try:
        return locate(weights).is_file()
    except InputError:  # published, and not on this machine
        return False


def published_rows() -> tuple[Row, ...]:
    """The rows of all tables in ``ablations/``."""
    files = [load_rows(name) for name in study_names()]
    return tuple(row for file in files if file is not None for row in file.rows)


def evaluated(
    rows: Iterable[Row], stores: Sequence[Store]
) -> dict[tuple[str, ...], EvaluationRecord]:
    """The evaluations of published weights that are rows: members → the newest record.

    Args:
        rows: some of which have members.
        stores: where records are looked for.
    """
    by_files = {}
    for store in stores:
        for record in store.evaluations():
            if record.split == "test":
                files = tuple(sorted(member.name for member in record.members))
                by_files[files, record.fingerprint.dataset] = record
    found = {}
    for row in rows:
        files = tuple(sorted(PUBLISHED[name].file for name in row.members))
        if files and (files, row.corpus.name) in by_files:
            found[row.members] = by_files[files, row.corpus.name]
    return found
