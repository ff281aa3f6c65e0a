"""Policies for empty masks. What a user loses otherwise: a choice that looks harmless and turns the ranking around."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
from scored import by_patient, comparison, evaluation

from covseg_core.errors import SettingError
from covseg_core.evaluation.empty_policy import WORDS, order_change, with_policy
from covseg_core.evaluation.measures import Counts, EmptyPolicy
from covseg_core.evaluation.results import Comparison

EMPTY, RIGHT = Counts(tn=100), Counts(tp=20, tn=80)
HALF, INVENTED = Counts(tp=10, fp=10, fn=10, tn=70), Counts(fp=5, tn=95)


@pytest.fixture
def careful() -> Comparison:
    """A leaves the empty slices clean, B finds more and invents something on each of them, C is A's twin."""
    a = [("p", "s", one) for one in (HALF, HALF, HALF, EMPTY)] + [("q", "t", EMPTY)] * 2
    b = [("p", "s", one) for one in (RIGHT, RIGHT, RIGHT, EMPTY)] + [("q", "t", INVENTED)] * 2
    return comparison(evaluation("accuracy", a), evaluation("iou", b), evaluation("dice", a))


def test_only_what_is_empty_twice_changes(careful: Comparison) -> None:
    perfect = with_policy(careful, "one").evaluations[0]
    assert perfect.policy == "one"
    half, _, _, empty, *_ = perfect.model.slices
    assert half == careful.evaluations[0].model.slices[0]
    assert {empty.values[name] for name in ("dice", "iou", "mean_iou", "nsd", "precision", "sensitivity")} == {1}
    assert empty.values["hd95"] == 0
    assert list(empty.values) == list(half.values), "in the order of the tables"
    assert perfect.model.over_slices["dice"].mean == pytest.approx((3 * 0.5 + 3) / 6)
    assert perfect.model.over_scans["dice"].mean == pytest.approx((0.5 + 1) / 2)
    invented = with_policy(careful, "one").evaluations[1].model.slices[4]
    assert (invented.values["dice"], invented.values["sensitivity"]) == (0, 1)


def test_there_and_back_is_where_it_was(careful: Comparison) -> None:
    assert with_policy(careful, "nan") is careful
    assert with_policy(with_policy(careful, "one"), "nan") == careful
    with pytest.raises(SettingError):
        with_policy(careful, "zero")  # type: ignore[arg-type]


def test_scans_that_are_not_whole_have_no_surface_measures_under_either(careful: Comparison) -> None:
    first = careful.evaluations[0]
    scans = tuple(
        dataclasses.replace(scan, whole=False, values=scan.values | {"hd95": None}) for scan in first.model.scans
    )
    partial = comparison(dataclasses.replace(first, model=dataclasses.replace(first.model, scans=scans)))
    assert [scan.values["hd95"] for scan in with_policy(partial, "one").evaluations[0].model.scans] == [None, None]


def test_a_choice_that_turns_the_ranking_around_is_told(careful: Comparison) -> None:
    """B is ahead where there is something to find, A and C where there is not."""
    said = order_change(careful)
    assert said == order_change(with_policy(careful, "one")), "whichever is chosen"
    assert said == (
        "The order of the models in mean Dice depends on how empty masks are scored: "
        "over slices (B > A = C if left out, A = C > B if counted as perfect) and "
        "over scans (A = B = C if left out, A = C > B if counted as perfect)."
    )


def test_a_choice_that_changes_no_order_is_not_talked_about() -> None:
    assert order_change(by_patient({"accuracy": [0.5, 0.6], "dice": [0.6, 0.7]})) == ""
    assert order_change(by_patient({"dice": [0.5, 0.6]})) == ""


def test_every_policy_has_words() -> None:
    assert set(WORDS) == set(get_args(EmptyPolicy))
