"""How much lower models score elsewhere. What a user loses otherwise: to know whether a drop is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from covseg_core.config import Metric
from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.results import VERSION
from covseg_core.evaluation.scores import Summary
from covseg_core.evaluation.significance import paired_tests
from covseg_core.evaluation.significance.bootstrap import difference_of_means
from covseg_core.evaluation.studies.source_drop import Drops, drops_of
from covseg_core.evaluation.studies.source_matrix import Cell, Shift

HIGH = [0.80, 0.85, 0.90, 0.75, 0.82, 0.88]
LOW = [0.40, 0.55, 0.50, 0.45, 0.52]


def cell(run: str, dataset: str, dice: Sequence[float], **changes: object) -> Cell:
    """Scans of one patient each."""
    values = {f"{dataset}_{number} p{number}": value for number, value in enumerate(dice)}
    summary = Summary(float(np.mean(dice)), None, 0.0, 0.0, 1.0, len(dice)) if dice else None
    part = "test" if dataset == "corona" else "all"
    return Cell(
        **{  # type: ignore[arg-type]
            "version": VERSION,
            "run": run,
            "model_sha256": "",
            "dataset": dataset,
            "fingerprint": "",
            "part": part,
            "leaky": False,
            "doubts": (),
            "slices": len(dice),
            "patients": len(dice),
            "dice": summary,
            "pooled_dice": None,
            "values": values,
            "counts": Counts(),
        }
        | changes
    )


def drops(*cells: Cell, folds: int = 1, metrics: Sequence[Metric] = ("dice",)) -> Drops:
    names = tuple(dict.fromkeys(one.run for one in cells))
    datasets = tuple(dict.fromkeys(one.dataset for one in cells))
    models = {
        name: [
            SimpleNamespace(config=SimpleNamespace(metric=metric, split=SimpleNamespace(fold=fold)))
            for fold in range(folds)
        ]
        for name, metric in zip(names, metrics, strict=True)
    }
    return drops_of(Shift(names, datasets, cells), models)  # type: ignore[arg-type]


def test_a_drop_is_a_sentence_with_its_interval() -> None:
    found = drops(cell("a", "corona", HIGH), cell("a", "radio", LOW))
    [drop] = found.drops
    assert drop.difference.value == pytest.approx(np.mean(LOW) - np.mean(HIGH))
    assert drop.difference.low is not None and drop.difference.high is not None
    assert drop.difference.low < drop.difference.value < drop.difference.high < 0
    assert (drop.patients, drop.own_patients) == (5, 6)
    edges = f"({-drop.difference.high:.2f} to {-drop.difference.low:.2f})"
    assert drop.sentence == (
        f"Dice model: Dice 0.35 lower on radio than on corona's test part {edges}, n = 5 and 6 patients."
    )
    assert any("95 %" in note for note in found.notes)
    assert not any("No interval" in note for note in found.notes)


def test_what_may_be_chance_is_not_called_lower() -> None:
    [drop] = drops(cell("a", "corona", HIGH), cell("a", "radio", [0.5, 0.95, 0.9, 0.6, 0.97])).drops
    assert drop.sentence.startswith(
        "Dice model: radio and corona's test part cannot be told apart: Dice 0.05 lower on radio (-0."
    )


def test_few_patients_get_no_interval_and_it_is_said() -> None:
    """Of three people, an interval would say more than is known."""
    found = drops(cell("a", "corona", HIGH), cell("a", "radio", LOW[:3]))
    [drop] = found.drops
    assert (drop.difference.low, drop.difference.high) == (None, None)
    assert drop.sentence == "Dice model: Dice 0.35 lower on radio than on corona's test part, n = 3 and 6 patients."
    assert any("No interval with fewer than 5 patients" in note for note in found.notes)
    assert not any("95 %" in note for note in found.notes)


def test_scans_of_one_patient_are_drawn_together() -> None:
    """Ten scans of two people say about two people."""
    values = {f"r{number} p{number % 2}": value for number, value in enumerate(LOW * 2)}
    [drop] = drops(cell("a", "corona", HIGH), cell("a", "radio", LOW * 2, values=values)).drops
    assert drop.patients == 2
    assert drop.difference.low is None
    assert drop.difference.value == pytest.approx(np.mean(LOW) - np.mean(HIGH)), "as the table: the mean over scans"


def test_people_who_were_seen_in_training_stand_in_the_sentence() -> None:
    [drop] = drops(cell("a", "corona", HIGH), cell("a", "radio", LOW, leaky=True)).drops
    assert drop.sentence.endswith("patients, partly seen in training.")
    [drop] = drops(cell("a", "corona", HIGH), cell("a", "radio", LOW, doubts=("who knows",))).drops
    assert drop.sentence.endswith("patients, perhaps seen in training.")


def test_models_are_told_apart_as_in_the_verdict() -> None:
    two = [cell(name, dataset, dice) for name in "ab" for dataset, dice in (("corona", HIGH), ("radio", LOW))]
    words = [drop.sentence.partition(":")[0] for drop in drops(*two, metrics=("accuracy", "dice")).drops]
    assert words == ["Accuracy model", "Dice model"]
    words = [drop.sentence.partition(":")[0] for drop in drops(*two, metrics=("dice", "dice")).drops]
    assert words == ["Dice model A", "Dice model B"]


def test_folds_have_several_test_parts_and_share_models() -> None:
    found = drops(cell("a", "corona", HIGH), cell("a", "radio", LOW), folds=3)
    assert "on corona's test parts (" in found.drops[0].sentence
    assert any("Patients of one fold share its models" in note for note in found.notes)


def test_without_both_sides_nothing_is_said() -> None:
    empty = Drops((), ())
    assert drops(cell("a", "radio", LOW)) == empty, "its own dataset is not here"
    assert drops(cell("a", "corona", HIGH)) == empty
    assert drops(cell("a", "corona", []), cell("a", "radio", LOW)) == empty, "no lesion at home, and none found"


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    """Against drawing patients one by one."""
    rng = np.random.default_rng(1)
    there, here = ({str(n): list(rng.random(1 + n % 3)) for n in range(size)} for size in (9, 7))
    found = difference_of_means(there, here)
    drawn = []
    for _ in range(9_999):
        means = []
        for side in (there, here):
            people = rng.integers(len(side), size=len(side))
            means.append(np.mean(np.concatenate([side[str(person)] for person in people])))
        drawn.append(means[0] - means[1])
    tail = (1 - paired_tests.expanded(7)) / 2
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [tail, 1 - tail]), abs=0.02)
    assert difference_of_means(there, here) == found, "the same each time"
    equal = difference_of_means({str(n): [0.5] for n in range(6)}, {str(n): [0.7] for n in range(5)})
    assert equal.low == pytest.approx(-0.2) and equal.high == pytest.approx(-0.2)
