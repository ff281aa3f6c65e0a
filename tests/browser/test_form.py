"""The form of a training. What a user loses otherwise: what was entered, by a look at another page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.importing import import_sample

if TYPE_CHECKING:
    from .conftest import Open

FIELDS: dict[str, str] = {
    "Epochs": "7",
    "Side of the slices (pixels)": "96",
    "Filters of the first block": "5",
    "Slices a batch": "3",
    "Neighbouring slices on each side": "2",
    "Learning rate": "0.003",
    "Patience (epochs)": "4",
    "Average of the weights": "0.97",
    "Seed": "11",
    "Folds": "3",
    "Seeds": "2",
}
CHOICES: dict[str, str] = {
    "Metric": "IoU",
    "Preset": "Standard",
    "Split": "By slice (leaks)",
    "Learn to outline": "Lung",
    "Part of a slice": "Lungs only",
    "Learning rate falls": "On a plateau",
    "Random changes to slices": "Full",
}


def test_the_form_is_as_it_was_left(visit: Open, sample: Dataset) -> None:
    """Who looks up an old run's settings on another page must not enter a dozen numbers again."""
    other = import_sample("other", scans=3, size=64)
    user = visit(f"?dataset={sample.name}")
    user.open("More settings")
    for label, option in CHOICES.items():
        user.choose(label, option)
    for label, value in FIELDS.items():
        user.type(label, value)
    for page in ("Runs", "Quick prediction"):
        user.go(page)
        user.settles()
    expect(user.page.get_by_test_id("stSidebar").get_by_text(f"Dataset: {sample.name}")).to_be_visible()
    user.go("Data and training")
    user.settles()
    assert other.created >= sample.created, "else the first choice says nothing"
    expect(user.main.get_by_role("combobox", name="Dataset")).to_have_value(sample.name)
    user.open("More settings")
    for label, option in CHOICES.items():
        chosen = user.main.get_by_role("radiogroup", name=label).get_by_role("radio", checked=True)
        expect(chosen).to_have_text(option)
    for label, value in FIELDS.items():
        expect(user.main.get_by_label(label, exact=True)).to_have_value(value)
