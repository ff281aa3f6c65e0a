"""Which models can stand side by side: those whose stored scores fit each other, and what models can be scored on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation import wording
from covseg_core.evaluation.cross_validation.folds import by_fold
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.seeds.merge import merge_seeds
from covseg_core.evaluation.seeds.seeded_model import by_seed
from covseg_core.evaluation.stored_scores import check_mergeable, stored_comparison

_Merge = Callable[[Sequence[Model], Sequence[Comparison]], Comparison]
APART = "Models of a cross-validation can be compared with others of the same folds, not with those of another split."
FOLDS_ELSEWHERE = (
    "Models of a cross-validation are scored on their own folds only. On other data every fold predicts every scan: "
    "their mean has no mask, so there are no voxels for tables and verdict to count. *Other sources* below shows that "
    "mean."
)


def compared(models: Sequence[Model]) -> tuple[Comparison | None, str]:
    """The stored scores of models, if they can stand side by side; else None and the reason, one sentence.

    They can if each belongs to its model as it is now, and all were made on the same slices of the same dataset, with
    one policy and threshold; folds if they are the same folds.
    """
    folded = [bool(model.folds) for model in models]
    if any(folded) and (not all(folded) or len({model.folds for model in models}) > 1):
        return None, APART
    if any(model.seeds for model in models):
        return _compared_seeds(models)
    try:
        if not any(folded):
            return stored_comparison([run for model in models for run in model.runs]), ""
        comparisons = [stored_comparison(fold) for fold in by_fold(models)]
        for comparison in comparisons:
            check_mergeable(comparison)
    except RunError as error:
        return None, f"{error.what} {error.found}."
    if len({(each.dataset, each.evaluations[0].fingerprint) for each in comparisons}) > 1:
        return None, APART
    return _put_together(merge, models, comparisons), ""


def grounds(models: Sequence[Model], names: Sequence[str]) -> list[str]:
    """What the models can be scored on, the natural one first: "" for their common test part, or one of the datasets.

    Without a common test part, that is what none has learned from in their own dataset; likewise where the dataset is
    not here, as that of a shipped model, and they have not been scored on it. Folds have no other than
    theirs: together they have learned from everybody.
    """
    if any(model.folds for model in models):
        return [""]
    configs = [model.config for model in models]
    own = configs[0].dataset
    tests = [{id: sorted(zs) for id, zs in model.test.items() if zs} for model in models]
    common = all(
        (config.dataset, config.fingerprint, config.target) == (own, configs[0].fingerprint, configs[0].target)
        and test == tests[0]
        for config, test in zip(configs, tests, strict=True)
    )
    found, same = [], True
    for name in sorted(names, key=lambda name: name != own):
        try:
            dataset = load_dataset(name)
        except CovsegError:
            continue
        if all(any(config.target in case.files for case in dataset.cases) for config in configs):
            found.append(name)
            changed = name == own and dataset.fingerprint != configs[0].fingerprint
            same = same and not changed
    if common and (own in names or compared(models)[0] is not None):
        return ["", *(name for name in found if name != own or not same)]
    return found or [""]


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


def _compared_seeds(models: Sequence[Model]) -> tuple[Comparison | None, str]:
    """As `compared`, of means over seeds: each seed by itself, then all of them."""
    comparisons = []
    for seed in by_seed(models):
        comparison, why = compared(seed)
        if comparison is None:
            return None, why
        comparisons.append(comparison)
    try:
        return _put_together(merge_seeds, models, comparisons), ""
    except RunError as error:
        return None, f"{error.what} {error.found}."


def _put_together(how: _Merge, models: Sequence[Model], comparisons: Sequence[Comparison]) -> Comparison:
    """One comparison over all folds or seeds, from those of each; kept, since it takes a while and pages ask often."""
    policy = comparisons[0].evaluations[0].policy
    alike = tuple(with_policy(comparison, policy) for comparison in comparisons)
    return _merged(how, _Parts(tuple(each.key for each in alike), tuple(models), alike))


@dataclass(frozen=True)
class _Parts:
    key: tuple[tuple[tuple[str, ...], ...], ...]
    models: tuple[Model, ...] = dataclasses.field(compare=False)
    comparisons: tuple[Comparison, ...] = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=16)
def _merged(how: _Merge, parts: _Parts) -> Comparison:
    return how(parts.models, parts.comparisons)
