"""The seeds of each model in one column: mean scores, and what is true of all of them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

from covseg_core.errors import RunError
from covseg_core.evaluation.cross_validation.folded_run import joined_sha256
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison, Evaluation, OwnScore, SeedScores
from covseg_core.evaluation.seeds.over_seeds import mean_scores
from covseg_core.evaluation.seeds.seeded_model import members, numbers


def merge_seeds(models: Sequence[Model], comparisons: Sequence[Comparison]) -> Comparison:
    """Put the comparisons of all seeds together.

    Parameters
    ----------
    models : of one seed or several
    comparisons : of the first seed of each model, of the second, and so on as `by_seed`, all under one policy

    Raises
    ------
    RunError : the seeds of a model were not scored on the same slices
    """
    scored: list[list[Evaluation]] = [[] for _ in models]
    for place, comparison in enumerate(comparisons):
        there = [mine for mine, model in zip(scored, models, strict=True) if place < len(members(model))]
        for mine, evaluation in zip(there, comparison.evaluations, strict=True):
            mine.append(evaluation)
    evaluations = tuple(
        _evaluation(model, mine) if model.seeds else mine[0] for model, mine in zip(models, scored, strict=True)
    )
    first = comparisons[0]
    return Comparison(first.dataset, first.part, any(one.leaky for one in evaluations), evaluations)


def _evaluation(model: Model, parts: Sequence[Evaluation]) -> Evaluation:
    """One for all seeds."""
    first = parts[0]
    for other in parts[1:]:
        if _rows(other) != _rows(first):
            found = "were not scored on the same slices"
            raise RunError(f"{first.run} and {other.run}", found, "one `covseg evaluate` of both")
    seeds = tuple(
        SeedScores(number, part.run, member.config.train.seed, part.own, part.model)
        for number, member, part in zip(numbers(model), model.seeds, parts, strict=True)
    )
    return dataclasses.replace(
        first,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=model.id,
        model_sha256=joined_sha256([part.model_sha256 for part in parts]),
        own=_own([part.own for part in parts]),
        training_seconds=sum(part.training_seconds for part in parts),
        epochs=sum(part.epochs for part in parts),
        model=mean_scores([part.model for part in parts]),
        predictions=None,
        notes=(*dict.fromkeys(note for part in parts for note in part.notes), _note(model)),
        seeds=seeds,
    )


def _rows(evaluation: Evaluation) -> tuple[object, ...]:
    rows = [(score.case, score.z) for score in evaluation.model.slices]
    return evaluation.dataset, evaluation.fingerprint, evaluation.policy, evaluation.threshold, rows


def _own(parts: Sequence[OwnScore]) -> OwnScore:
    """Means; the counts behind them are those of each seed."""
    learned = [part.train_validation for part in parts if part.train_validation is not None]
    mean = sum(learned) / len(learned) if len(learned) == len(parts) else None
    return OwnScore(parts[0].metric, mean, sum(part.test for part in parts) / len(parts))


def _note(model: Model) -> str:
    """How many seeds there are, and which are missing."""
    asked, there = model.config.train.seeds, numbers(model)
    if len(there) == asked:
        return f"A model of {asked} seeds was trained {asked} times: its scores are means over its seeds."
    listed, verb = ", ".join(map(str, there)), "counts" if len(there) == 1 else "count"
    return f"Only {len(there)} of {asked} seeds {verb} ({listed}), as given and finished for all models."
