"""Reviewing by keyboard. What a user loses otherwise: the hours that a hundred masks take with a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.reviews import read_reviews

if TYPE_CHECKING:
    from .conftest import Open, User


def case(user: User) -> str:
    return user.main.get_by_role("combobox", name="Case").input_value()


def press(user: User, *keys: str) -> None:
    for key in keys:
        user.page.keyboard.press(key)
        user.settles()


def test_masks_are_graded_and_decided_on_by_keys(visit: Open, sample: Dataset) -> None:
    user = visit(f"review?dataset={sample.name}")
    user.pick("Order", "By name")
    user.type("Your name", "Ada")
    user.main.get_by_role("heading", name="Review").click()  # digits are part of a name
    first = case(user)
    press(user, "4", "y")
    assert case(user) != first
    user.sees(f"{first}: accepted, grade 4.")
    second = case(user)
    press(user, "n")
    user.sees(f"2 of {len(sample.cases)} masks seen by Ada: 1 accepted, 1 rejected")
    third = case(user)
    press(user, "Alt+ArrowLeft")
    assert case(user).startswith(f"{second} · rejected")
    user.main.get_by_label("Note").fill("y n 4")
    user.page.keyboard.press("Enter")
    user.main.get_by_role("heading", name="Review").click()
    user.settles()
    assert len(read_reviews(load_dataset(sample.name))) == 2, "letters of a note are no keys"
    press(user, "Alt+ArrowRight")
    assert case(user) == third
    found = [(one.case, one.decision, one.grade) for one in read_reviews(load_dataset(sample.name))]
    assert found == [(first, "accepted", 4), (second, "rejected", None)]
    user.page.reload()
    expect(user.main.get_by_role("combobox", name="Case")).to_have_value(third)
