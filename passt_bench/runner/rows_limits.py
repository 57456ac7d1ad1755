"""What a command line asks of the rows of a published table and only some of them can take.

A file of rows is a study a data set. What none of them can take is refused, as it is of a single
study; what some of them cannot take holds for the others, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from passt_bench.errors import InputError
from passt_bench.runner.prepare import Request, changed
from passt_bench.runner.studies import RowsFile
from passt_bench.spec.override import parse_assignments
from passt_bench.spec.rows import Corpus
from passt_bench.spec.study import Study

EPOCH_CLIPS = "training.epoch_clips"


def remark_limits(file: RowsFile, request: Request) -> tuple[str, ...]:
    """Says of what is asked for only some rows take.

    Args:
        file: the rows.
        request: what the command line says.

    Returns:
        A sentence for each such option, none where all rows take all.

    Raises:
        InputError: an option that no row takes, or more folds than there are.
    """
    _check_trained(file, request)
    return (*_of_folds(file, request), *_of_epoch_clips(file, request))


def draws_by_weight(study: Study) -> bool:
    """Whether the clips of an epoch are drawn by weight, so that their number can be chosen."""
    return study.base.training.sampling == "weighted"


def _check_trained(file: RowsFile, request: Request) -> None:
    sets = ", ".join(request.sets) or None
    options = {"--set": sets, "--seeds": request.seeds, "--folds": request.folds}
    options["--no-baseline"] = None if request.baseline else True
    for option, value in options.items():
        if value is not None and not file.studies:
            raise InputError(
                "none of these rows is trained",
                source=file.name,
                field=option,
                value=value,
                remedy="Leave it out.",
            )


def _of_folds(file: RowsFile, request: Request) -> Iterable[str]:
    if request.folds is None:
        return
    corpora = _corpora(file)
    with_folds = [corpus for corpus in corpora if corpus.folds > 1]
    most = max((corpus.folds for corpus in with_folds), default=0)
    if not 1 <= request.folds <= most:
        raise InputError(
            f"there are {most} folds" if most else "the data sets have one split and no folds",
            source=file.name,
            field="--folds",
            value=request.folds,
            remedy=f"Give 1 to {most}, or leave it out for all." if most else "Leave it out.",
        )
    others = [corpus for corpus in corpora if corpus.folds == 1]
    if others:
        yield (
            f"--folds {request.folds} holds for {_names(with_folds)}; {_names(others)} have one "
            "split and no folds."
        )


def _of_epoch_clips(file: RowsFile, request: Request) -> Iterable[str]:
    value = parse_assignments(list(request.sets)).get(EPOCH_CLIPS)
    if value is None:
        return
    drawn = [study for study in file.studies if draws_by_weight(changed(study, request))]
    if not drawn:
        raise InputError(
            "the clips of these rows are shuffled: an epoch is every clip once",
            source=file.name,
            field=EPOCH_CLIPS,
            value=value,
            remedy="Leave it out, or set training.sampling=weighted as well.",
        )
    names = {study.name for study in drawn}
    mine = _corpora(file, names)
    others = [corpus for corpus in _corpora(file) if corpus not in mine]
    if others:
        yield (
            f"{EPOCH_CLIPS}={value} holds for {_names(mine)}; the clips of {_names(others)} are "
            "shuffled, and an epoch is every clip once."
        )


def _corpora(file: RowsFile, studies: Iterable[str] | None = None) -> list[Corpus]:
    """The data sets that rows of some studies, by default of all, are trained on."""
    names = {study.name for study in file.studies} if studies is None else set(studies)
    return list(dict.fromkeys(row.corpus for row in file.rows if row.study in names))


def _names(corpora: Iterable[Corpus]) -> str:
    return ", ".join(corpus.name for corpus in corpora)
