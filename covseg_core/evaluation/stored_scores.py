"""Scores that runs keep of their own test part: when they are still valid, and when they can stand side by side."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.results import VERSION, Comparison, Evaluation
from covseg_core.files import Stamp, cached_sha256, read_json, stamp
from covseg_core.runs import Run

T = TypeVar("T")


@dataclass(frozen=True)
class _Pooled:
    pooled: dict[str, float | None]


@dataclass(frozen=True)
class _Summary:
    """Of an `Evaluation` what a list of runs shows; read in a tenth of the time."""

    version: int
    model_sha256: str
    model: _Pooled


def stored_scores(run: Run) -> Evaluation:
    """A run's `evaluation.json`, read again only once it has changed.

    Raises
    ------
    RunError : the run has not been scored yet, or its scores belong to an earlier model
    """
    found = _evaluation(run, stamp(run.evaluation))
    check_current(run, found)
    return found


def stored_pooled(run: Run) -> dict[str, float | None]:
    """Measure -> score over all voxels of the run's test part, and nothing else; raises as `stored_scores`."""
    found = _summary(run, stamp(run.evaluation))
    check_current(run, found)
    return found.model.pooled


def check_current(run: Run, evaluation: Evaluation | _Summary) -> None:
    """Raise `RunError` unless scores are of the run's present model, and of the present version."""
    if evaluation.version != VERSION or evaluation.model_sha256 != cached_sha256(run.onnx):
        raise RunError(run.id, "has scores of an earlier model", f"`covseg evaluate {run.id}` once more")


def stored_comparison(runs: Sequence[Run]) -> Comparison:
    """The stored scores of several runs as one comparison, if they can stand side by side.

    They can if all were made on the same slices of the same dataset, with one policy and threshold.

    Raises
    ------
    RunError : as `stored_scores`, or the runs were not scored under the same conditions
    """
    evaluations = tuple(stored_scores(run) for run in runs)
    first = evaluations[0]
    for other in evaluations[1:]:
        if _conditions(other) != _conditions(first):
            names = f"{first.run} and {other.run}"
            raise RunError(names, "were not scored under the same conditions", "one `covseg evaluate` of both")
    return Comparison(first.dataset, first.part, any(one.leaky for one in evaluations), evaluations)


def check_mergeable(comparison: Comparison) -> None:
    """Raise `RunError` unless the scores of a fold can be merged with those of others."""
    for evaluation in comparison.evaluations:
        if evaluation.own.test_counts is None:
            expected = f"`covseg evaluate {evaluation.run}` once more"
            raise RunError(evaluation.run, "has scores of an earlier version of covseg", expected)


@functools.lru_cache(maxsize=64)
def _evaluation(run: Run, stamp: Stamp | None) -> Evaluation:
    return _read(run, Evaluation)


@functools.lru_cache(maxsize=1024)
def _summary(run: Run, stamp: Stamp | None) -> _Summary:
    return _read(run, _Summary)


def _read(run: Run, kind: type[T]) -> T:
    try:
        return read_json(run.evaluation, kind)
    except CovsegError:  # there is none, or it is of another version, or damaged
        raise RunError(run.id, "has not been scored yet", f"`covseg evaluate {run.id}`") from None


def _conditions(evaluation: Evaluation) -> tuple[object, ...]:
    """What has to be equal for two evaluations to stand in one table."""
    return (
        evaluation.dataset,
        evaluation.fingerprint,
        evaluation.part,
        evaluation.target,
        evaluation.policy,
        evaluation.threshold,
        evaluation.units,
        tuple((score.case, score.z) for score in evaluation.model.slices),
    )
