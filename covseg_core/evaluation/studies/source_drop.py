"""How much lower models score on other sources than on their own test part: a sentence each, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from covseg_core.evaluation import wording
from covseg_core.evaluation.significance import paired_tests
from covseg_core.evaluation.significance.bootstrap import Interval, difference_of_means
from covseg_core.evaluation.significance.verdict import spoken
from covseg_core.evaluation.studies.source_matrix import Cell, Shift
from covseg_core.runs import Run


@dataclass(frozen=True)
class Drop:
    """A model on another dataset, against its own test part."""

    model: str
    dataset: str
    own: str
    """The dataset that it was made from."""
    difference: Interval
    """Mean Dice over scans there minus that of the own test part: below 0 where it is worse there."""
    patients: int
    """Of those scans, there."""
    own_patients: int
    sentence: str


@dataclass(frozen=True)
class Drops:
    """All there are of a matrix, by model and dataset."""

    drops: tuple[Drop, ...]
    notes: tuple[str, ...]
    """How to read them, a sentence each."""


def drops_of(found: Shift, models: Mapping[str, Sequence[Run]]) -> Drops:
    """Compare each model's own test part with the other datasets, as far as both are scored and Dice is defined.

    Parameters
    ----------
    found : a column a model, see `matrix.by_model`
    models : the runs of each
    """
    letters = dict(zip(models, wording.letters(), strict=False))
    metrics = {letters[name]: runs[0].config.metric for name, runs in models.items()}
    drops = []
    for name, runs in models.items():
        cells = [cell for dataset in found.datasets if (cell := found.cell(name, dataset)) and cell.dice]
        for own in (cell for cell in cells if cell.part == "test"):
            model = spoken(letters[name], metrics)
            drops += [_drop(model, cell, own, _folded(runs)) for cell in cells if cell is not own]
    return Drops(tuple(drops), tuple(_notes(drops, any(_folded(runs) for runs in models.values()))))


def _folded(runs: Sequence[Run]) -> bool:
    """Whether a model is of several folds."""
    return len({run.config.split.fold for run in runs}) > 1


def _drop(model: str, there: Cell, own: Cell, folds: bool) -> Drop:
    sides = [_by_patient(cell) for cell in (there, own)]
    difference, patients = difference_of_means(*sides), (len(sides[0]), len(sides[1]))
    sentence = _sentence(model, difference, there, own, patients, folds)
    return Drop(own.run, there.dataset, own.dataset, difference, *patients, sentence)


def _by_patient(cell: Cell) -> dict[str, list[float]]:
    """Patient -> Dice of the scans."""
    found: dict[str, list[float]] = {}
    for key, value in cell.values.items():
        found.setdefault(key.partition(" ")[2], []).append(value)  # ids of cases have no spaces
    return found


def _sentence(model: str, difference: Interval, there: Cell, own: Cell, patients: tuple[int, int], folds: bool) -> str:
    n = f"n = {patients[0]} and {wording.plural(patients[1], 'patient')}"
    home, value = f"{own.dataset}'s test part{'s' if folds else ''}", difference.value or 0.0
    low, high = difference.low, difference.high
    real = low is None or high is None or not low <= 0 <= high  # without an interval the number is all there is
    size = f"{abs(value):.2f}" if low is None or high is None else wording.size(value, low, high, real)
    number, _, edges = size.partition(" ")
    change = f"Dice {number} {'lower' if value < 0 else 'higher'} on {there.dataset}"
    much = f"{change} than on {home}" if real else f"{there.dataset} and {home} cannot be told apart: {change}"
    much += f" {edges}" if edges else ""
    seen = there.leaky or own.leaky
    doubt = ", partly seen in training" if seen else ", perhaps seen in training" if there.doubts or own.doubts else ""
    text = f"{model}: {much}, {n}{doubt}."
    return text[0].upper() + text[1:]


def _notes(drops: Sequence[Drop], folds: bool) -> list[str]:
    if not drops:
        return []
    known = [drop.difference.low is not None for drop in drops]
    notes = ["Compared are means over scans; n is patients there and in the own test part."]
    if any(known):
        notes.append(
            "Intervals are of 95 %, by bootstrap over patients, each side by itself; they are not corrected for their "
            "number."
        )
    if not all(known):
        fewest = paired_tests.FEWEST_FOR_INTERVAL
        notes.append(f"No interval with fewer than {fewest} patients on either side: the difference may be chance.")
    if any(known) and folds:
        notes.append("Patients of one fold share its models, so that intervals are a little too narrow.")
    return notes
