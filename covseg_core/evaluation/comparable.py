"""Which scores of models can stand side by side: those that are stored, and what models can be scored on.

Plain functions, no Streamlit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.cross_validation import folded_run
from covseg_core.evaluation.results import VERSION, Comparison, Evaluation
from covseg_core.files import cached_sha256
from covseg_core.runs import Run

FOLDS_ELSEWHERE = (
    "Models of a cross-validation are scored on their own folds only. On other data every fold predicts every scan: "
    "their mean has no mask, so no voxels that tables and verdict could count. *Other sources* below shows that mean."
)


def stored_comparison(
    chosen: Sequence[Run], stored: Callable[[str], Evaluation | None]
) -> tuple[Comparison | None, str]:
    """The evaluations in the runs' folders, if they can stand side by side; else None and the reason, one sentence.

    They can if each belongs to the run's present model, and all were made on the same slices of the same dataset, with
    one policy and threshold.

    Parameters
    ----------
    stored : run id -> its evaluation, None if there is none; may raise `CovsegError`
    """
    if folded_run.any_in(chosen):
        return _stored_folds(chosen, stored)
    evaluations = []
    for run in chosen:
        try:
            evaluation = stored(run.id)
        except CovsegError:
            evaluation = None  # of another version, or damaged
        if evaluation is None:
            return None, f"{run.id} has not been scored yet."
        if evaluation.version != VERSION or evaluation.model_sha256 != cached_sha256(run.onnx):
            return None, f"The scores of {run.id} belong to an earlier model of this run."
        evaluations.append(evaluation)
    first = evaluations[0]
    for other in evaluations[1:]:
        if _conditions(other) != _conditions(first):
            return None, f"{first.run} and {other.run} were not scored under the same conditions."
    leaky = any(evaluation.leaky for evaluation in evaluations)
    return Comparison(first.dataset, first.part, leaky, tuple(evaluations)), ""


def _stored_folds(chosen: Sequence[Run], stored: Callable[[str], Evaluation | None]) -> tuple[Comparison | None, str]:
    """As `stored_comparison`, of all folds together."""
    folds = folded_run.fold_by_fold(chosen)
    if not folds:
        return None, folded_run.APART
    comparisons = []
    for fold in folds:
        comparison, why = stored_comparison(fold, stored)
        if comparison is None:
            return None, why
        if any(one.own.test_counts is None for one in comparison.evaluations):
            return None, f"The scores of {fold[0].id} were made by an earlier version of covseg."
        comparisons.append(comparison)
    datasets = {(each.dataset, each.evaluations[0].fingerprint) for each in comparisons}
    return (folded_run.put_together(chosen, comparisons), "") if len(datasets) == 1 else (None, folded_run.APART)


def grounds(chosen: Sequence[Run], names: Sequence[str]) -> list[str]:
    """What the models can be scored on, the natural one first: "" for their common test part, or one of the datasets.

    Without a common test part, that is what none has learned from in their own dataset. Folds have no other than
    theirs: together they have learned from everybody.
    """
    if folded_run.any_in(chosen):
        return [""]
    configs = [run.config for run in chosen]
    own = configs[0].dataset
    tests = [{id: sorted(zs) for id, zs in run.split.test.items() if zs} for run in chosen]
    common = all(
        (config.dataset, config.fingerprint, config.target) == (own, configs[0].fingerprint, configs[0].target)
        and test == tests[0]
        for config, test in zip(configs, tests, strict=True)
    )
    found = []
    for name in sorted(names, key=lambda name: name != own):
        try:
            cases = load_dataset(name).cases
        except CovsegError:
            continue
        if all(any(config.target in case.files for case in cases) for config in configs):
            found.append(name)
    return ["", *(name for name in found if name != own)] if common else found or [""]


def leak(comparison: Comparison) -> str:
    """What LEAKY means here, as Markdown; empty if no patient of the test was seen before."""
    seen = {patient for evaluation in comparison.evaluations for patient in evaluation.seen_patients}
    if not comparison.leaky:
        return ""
    of = wording.plural(comparison.evaluations[0].patients, "test patient")
    return (
        f"**LEAKY**: training or validation has seen {len(seen)} of {of}, so these scores are too good. Split by "
        "patient to know how the models do on new people."
    )


def notes(comparison: Comparison) -> list[str]:
    """What has to be known before the numbers are believed, a sentence each."""
    same = wording.same_models(comparison.evaluations)
    found = [same] if same else []
    return found + list(dict.fromkeys(note for evaluation in comparison.evaluations for note in evaluation.notes))


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
