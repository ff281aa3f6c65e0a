"""In which order to review masks: those first that are most worth somebody's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.library.reviews import current_mask, read_reviews, waiting
from covseg_core.data.library.revision import Role
from covseg_core.evaluation.stored_predictions.doubtful_masks import doubtful_cases, doubts_of
from covseg_core.runs import Run

Order = Literal["doubt", "quality", "agreement", "size", "name"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Ranked:
    """A case, and why it stands where it does."""

    case: str
    value: float | None
    """Of what the order goes by: `Doubt.agreement` of models with the mask, `Revision.expected_dice` or
    `Revision.agreement` of the models that made it, or marked voxels. None where it is not known, and by name."""


def ranked(dataset: Dataset, role: Role, order: Order = "name", runs: Sequence[Run] = ()) -> list[Ranked]:
    """Every case that has a mask; those of which the order knows nothing come last.

    Parameters
    ----------
    order : `doubt`: masks first from which models differ most that did not learn from them; `agreement`: masks that
        models have made and agreed least on; `quality`: masks that models have made of which the lowest Dice is
        expected; `size`: the largest; `name`: by their names
    runs : finished and evaluated on the dataset, for `doubt`

    Raises
    ------
    CovsegError : as `doubts_of`
    """
    value = _value(dataset, role, order, runs)
    cases = [case for case in sorted(dataset.cases, key=lambda case: case.id) if current_mask(dataset, case, role)]
    found = [Ranked(case.id, value(case)) for case in cases]
    sign = -1 if order == "size" else 1
    return sorted(found, key=lambda one: (one.value is None, sign * (one.value or 0.0)))


def queue(dataset: Dataset, role: Role, reader: str, order: Order = "name", runs: Sequence[Run] = ()) -> list[Ranked]:
    """Those that this reader has neither looked at nor drawn; as `ranked`."""
    left = {case.id for case in waiting(dataset, role, read_reviews(dataset), reader)}
    return [one for one in ranked(dataset, role, order, runs) if one.case in left]


def _value(dataset: Dataset, role: Role, order: Order, runs: Sequence[Run]) -> Callable[[Case], float | None]:
    if order == "doubt":
        known = {doubt.case: doubt.agreement for doubt in doubtful_cases(doubts_of(runs))} if runs else {}
        return lambda case: known.get(case.id)
    if order == "agreement":
        return lambda case: mask.agreement if (mask := current_mask(dataset, case, role)) else None
    if order == "quality":
        return lambda case: mask.expected_dice if (mask := current_mask(dataset, case, role)) else None
    if order == "size":
        return lambda case: float(sum(case.voxels(role) or ()))
    return lambda case: None
