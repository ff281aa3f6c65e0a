"""The verdict in words. What a user loses otherwise: a sentence that says no more than the numbers behind it."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from scored import by_patient, comparison, evaluation, of_dice

from covseg_core.cli import cli
from covseg_core.errors import SettingError
from covseg_core.evaluation.measures import Counts, overlap
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.significance.paired_tests import fewest_patients
from covseg_core.evaluation.significance.verdict import COMPARED, Pair, verdict

EMPTY = Counts(tn=100)
INVENTED = Counts(fp=5, tn=95)


def only(comparison: Comparison, measure: str = "dice") -> Pair:
    """The verdict on two models."""
    [pair] = verdict(comparison, measure).pairs
    return pair


def test_a_clear_difference_is_called_one_with_its_interval() -> None:
    accuracy = np.array([0.60, 0.65, 0.70, 0.75, 0.80, 0.62, 0.71, 0.68])
    gain = np.array([0.03, 0.04, 0.05, 0.04, 0.03, 0.05, 0.04, 0.04])
    pair = only(by_patient({"accuracy": accuracy, "dice": accuracy + gain}))
    assert pair.sentence == "Dice model better than accuracy model by 0.04 (0.03 to 0.05), n = 8 patients."
    assert (pair.first, pair.second, pair.better) == ("A", "B", "B")
    assert pair.difference == pytest.approx(-0.04), "the first minus the second, as the table says"
    assert pair.low is not None and pair.high is not None
    assert pair.low < -0.04 < pair.high < 0
    assert pair.p == pair.corrected_p == 2 / 2**8


def test_who_is_ahead_comes_first_whatever_the_letters() -> None:
    lower, higher = np.linspace(0.3, 0.4, 8), np.linspace(0.5, 0.61, 8)
    assert only(by_patient({"iou": higher, "dice": lower})).sentence.startswith("IoU model better than Dice model by")
    assert only(by_patient({"iou": lower, "dice": higher})).sentence.startswith("Dice model better than IoU model by")


def test_chance_is_not_called_a_difference() -> None:
    one = np.linspace(0.5, 0.8, 12)
    other = one + np.array([0.09, -0.06, 0.08, -0.07, 0.05, -0.04, 0.03, 0.02, -0.05, 0.06, -0.01, 0.02])
    pair = only(by_patient({"accuracy": one, "dice": other}))
    assert pair.better == ""
    assert pair.sentence == (
        "Dice and accuracy model cannot be told apart: difference 0.01 (-0.02 to 0.04), n = 12 patients. "
        f"To tell a difference of this size would take about {pair.needed} patients."
    )
    assert pair.needed is not None and pair.needed > 100
    assert "from few patients a guess" in verdict(by_patient({"accuracy": one, "dice": other})).notes[-1]


@pytest.mark.parametrize("patients", [1, 2, 3, 4, 5])
def test_few_patients_say_so_however_large_the_difference(patients: int) -> None:
    """A page that names a winner by two patients is believed."""
    gain = np.linspace(0.3, 0.4, patients)
    found = verdict(by_patient({"accuracy": 0.2 + 0 * gain, "dice": 0.2 + gain}))
    people = "1 test patient" if patients == 1 else f"{patients} test patients"
    [pair] = found.pairs
    assert pair.sentence.startswith(f"Dice and accuracy model cannot be told apart: {people}.")
    assert pair.better == ""
    assert (pair.low is None) == (patients < 5), "no interval that cannot cover 95 %"
    assert any("fewer than 6 patients" in note for note in found.notes)


def test_three_pairs_are_corrected_for_three_and_stand_in_the_order_of_the_tables() -> None:
    base = np.linspace(0.5, 0.6, 6)
    steps = np.array([0.04, 0.05, 0.06, 0.05, 0.04, 0.06])
    found = verdict(by_patient({"accuracy": base, "iou": base + steps, "dice": base + 3 * steps}))
    assert [(pair.first, pair.second) for pair in found.pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [pair.p for pair in found.pairs] == [2 / 2**6] * 3
    assert [pair.corrected_p for pair in found.pairs] == [6 / 2**6] * 3
    assert all(pair.better == "" for pair in found.pairs), "6 patients are enough for one pair, not for three"
    assert found.fewest == 7
    assert "fewer than 7 patients this test of 3 comparisons can never" in found.notes[1]
    assert "--folds" in found.notes[2], "who has too few test patients is not told how to get more"


def test_models_that_predict_the_same_are_neither_tested_nor_counted() -> None:
    base = np.linspace(0.5, 0.6, 8)
    found = verdict(by_patient({"accuracy": base, "iou": base, "dice": base + np.linspace(0.1, 0.2, 8)}))
    assert found.pairs[0].sentence == "Accuracy and IoU model: the same predictions."
    assert found.pairs[0].p is None
    assert found.comparisons == 2
    assert [pair.better for pair in found.pairs] == ["", "C", "C"]
    alone = verdict(by_patient({"accuracy": base, "iou": base}))
    assert (alone.comparisons, alone.notes) == (0, ())
    assert verdict(by_patient({"dice": base})).pairs == ()


def test_equal_scores_of_different_predictions_are_no_equal_predictions() -> None:
    rows = [(f"p{n}", f"s{n}", Counts(10, 5, 0, 85)) for n in range(8)]
    mirrored = [(patient, scan, Counts(10, 0, 5, 85)) for patient, scan, _ in rows]
    pair = only(comparison(evaluation("accuracy", rows), evaluation("dice", mirrored)))
    assert not pair.same
    assert (pair.difference, pair.p, pair.needed) == (0, 1, None)
    assert pair.sentence == (
        "Accuracy and Dice model cannot be told apart: difference 0.00 (0.00 to 0.00), n = 8 patients."
    )


def test_a_patient_counts_once_with_all_scans_and_slices_together() -> None:
    """Otherwise one patient with many scans would decide, and n would be the number of scans."""
    parts = [Counts(10, 10, 0, 80), Counts(0, 0, 30, 70), EMPTY]
    rows = [("p0", f"scan{n}", counts) for n, counts in enumerate(parts)] + [("p1", "other", Counts(5, 5, 5, 85))]
    other = [("p0", f"scan{n}", Counts(20, 0, 0, 80)) for n in range(3)] + [("p1", "other", Counts(10, 0, 0, 90))]
    found = verdict(comparison(evaluation("iou", rows), evaluation("dice", other)))
    assert found.patients == ("p0", "p1")
    pooled = overlap(Counts(10, 10, 30, 250))["dice"]
    assert found.pairs[0].differences == pytest.approx((pooled - 1, 0.5 - 1))
    assert found.pairs[0].patients == 2


def test_patients_without_a_value_are_left_out_of_the_pair_and_it_is_said() -> None:
    rows = [(f"p{n}", f"s{n}", of_dice(dice)) for n, dice in enumerate(np.linspace(0.5, 0.6, 8))]
    better = [(f"p{n}", f"s{n}", of_dice(dice)) for n, dice in enumerate(np.linspace(0.7, 0.9, 8))]
    one = evaluation("iou", [*rows, ("p8", "s8", EMPTY)])
    other = evaluation("dice", [*better, ("p8", "s8", INVENTED)])
    pair = only(comparison(one, other))
    assert (pair.patients, pair.differences[-1]) == (8, None)
    assert pair.sentence.endswith("n = 8 patients (1 left out: Dice undefined).")
    empty = evaluation("iou", [("p0", "s0", EMPTY)]), evaluation("dice", [("p0", "s0", INVENTED)])
    assert "no test patient with a defined Dice" in only(comparison(*empty)).sentence
    assert only(comparison(*empty), "specificity").differences == (pytest.approx(0.05),)


def test_people_partly_seen_in_training_are_named_in_the_sentence() -> None:
    """It is the sentence that is copied, without the page's red badge."""
    base = np.linspace(0.5, 0.6, 8)
    for models in ({"accuracy": base, "dice": base + 0.1}, {"accuracy": base, "dice": base[::-1]}):
        pair = only(by_patient(models, leaky=True))
        assert "8 patients, partly seen in training." in pair.sentence


def test_another_measure_gives_another_verdict() -> None:
    """The same Dice by finding less and inventing less: sensitivity and precision do not agree."""
    rows = [(f"p{n}", f"s{n}", Counts(10, 2 + n, 0, 80)) for n in range(8)]
    other = [(f"p{n}", f"s{n}", Counts(10 - n // 4 - 1, 0, n // 4 + 1, 90)) for n in range(8)]
    both = comparison(evaluation("iou", rows), evaluation("dice", other))
    assert only(both, "sensitivity").better == "A"
    assert only(both, "precision").better == "B"
    for measure in COMPARED:
        assert verdict(both, measure).measure == measure
    with pytest.raises(SettingError, match="hd95"):
        verdict(both, "hd95")


def test_folds_are_said_to_share_their_models() -> None:
    base = np.linspace(0.5, 0.6, 8)
    models = {"accuracy": base, "dice": base + 0.1}
    assert any("fold share its models" in note for note in verdict(by_patient(models, folds=4)).notes)
    assert not any("fold" in note for note in verdict(by_patient(models)).notes)


def test_two_models_of_one_metric_are_told_apart_by_their_letters() -> None:
    base = np.linspace(0.5, 0.6, 8)
    runs = [by_patient({"dice": base + step}).evaluations[0] for step in (0, 0.1)]
    assert only(comparison(*runs)).sentence.startswith("Dice model B better than Dice model A by")
    three = verdict(comparison(*runs, by_patient({"iou": base[::-1]}).evaluations[0]))
    assert three.pairs[1].sentence.startswith("Dice model A and IoU model cannot be told apart")


def test_small_differences_keep_the_digits_they_need() -> None:
    """'Better by 0.00 (0.00 to 0.00)' would be no sentence."""
    base = np.linspace(0.5, 0.6, 8)
    pair = only(by_patient({"iou": base, "dice": base + np.linspace(0.001, 0.003, 8)}))
    assert pair.better == "B"
    assert pair.sentence.startswith("Dice model better than IoU model by 0.002 (0.001 to 0.003)")


def test_with_no_difference_three_models_cannot_be_told_apart_in_95_of_100_studies() -> None:
    """Less three standard errors of 100 studies; test_statistics.py counts more closely."""
    random = np.random.default_rng(3)
    silent = 0
    for _ in range(100):
        patients = random.normal(0.6, 0.1, 8)
        models = np.clip(patients + random.normal(0, 0.05, (3, 8)), 0, 1)
        found = verdict(by_patient({"accuracy": models[0], "iou": models[1], "dice": models[2]}))
        silent += all("cannot be told apart" in pair.sentence for pair in found.pairs)
    assert silent >= 95 - 3 * 2


def test_a_difference_that_is_there_is_found_when_there_are_as_many_patients_as_it_says() -> None:
    """A verdict that never dares would pass the test above."""
    random = np.random.default_rng(4)
    found = 0
    for _ in range(60):
        base = random.normal(0.6, 0.05, 11)
        pair = only(by_patient({"accuracy": base, "dice": np.clip(base + random.normal(0.04, 0.04, 11), 0, 1)}))
        found += pair.better == "B"
    assert 0.6 < found / 60 < 0.95, "mean = spread: 10 patients for 80 %"


def test_the_verdict_is_the_same_each_time() -> None:
    random = np.random.default_rng(6)
    models = random.uniform(0.4, 0.9, (3, 20))
    made = by_patient({"accuracy": models[0], "iou": models[1], "dice": models[2]})
    assert verdict(made) == verdict(made)


def test_pairs_of_many_models() -> None:
    base = np.linspace(0.5, 0.6, 9)
    runs = [by_patient({"dice": np.roll(base, step)}).evaluations[0] for step in range(4)]
    found = verdict(comparison(*runs))
    assert [pair.first + pair.second for pair in found.pairs] == ["".join(p) for p in itertools.combinations("ABCD", 2)]
    assert found.fewest == fewest_patients(6)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """What `covseg evaluate` finds: three models, two of which are one."""
    base = np.linspace(0.5, 0.6, 8)
    made = by_patient({"accuracy": base, "iou": base, "dice": base + np.linspace(0.08, 0.12, 8)})
    monkeypatch.setattr("covseg_core.evaluation.comparison.evaluate", lambda *args: made)
    monkeypatch.setattr("covseg_core.cli.evaluate.open_runs", lambda id: [])
    return made


def test_the_command_line_says_what_the_page_says(evaluated: Comparison) -> None:
    done = CliRunner().invoke(cli, ["evaluate", "a", "b", "c"], catch_exceptions=False)
    assert done.exit_code == 0
    for pair in verdict(evaluated).pairs:
        assert f"- {pair.sentence}" in done.stdout.splitlines()
    assert "background counts as a class" in done.stdout


def test_the_json_has_the_verdict_beside_what_it_always_had(evaluated: Comparison) -> None:
    done = CliRunner().invoke(cli, ["evaluate", "a", "b", "c", "--json", "--names"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert list(found) == ["dataset", "part", "leaky", "evaluations", "verdict"]
    assert found["evaluations"][0]["model"]["pooled"]["dice"] == evaluated.evaluations[0].model.pooled["dice"]
    pairs = found["verdict"]["pairs"]
    assert [pair["better"] for pair in pairs] == ["", "C", "C"]
    assert pairs[0]["same"] is True
    assert pairs[1]["difference"] == pytest.approx(-0.1, abs=1e-4)
    assert len(pairs[1]["differences"]) == len(found["verdict"]["patients"]) == pairs[1]["patients"] == 8
