"""Seeds in the verdict. What a user loses otherwise: a winner that another seed would have made the loser."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scored import by_patient, comparison, seeded

from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.significance import paired_tests, seeds
from covseg_core.evaluation.significance.verdict import Pair, verdict


def only(first: np.ndarray, second: np.ndarray) -> Pair:
    """The verdict on two models, from Dice by seed and patient; one row for a model that was trained once."""
    models = [
        seeded(metric, rows) if len(rows) > 1 else by_patient({metric: rows[0]}).evaluations[0]
        for metric, rows in (("accuracy", first), ("dice", second))
    ]
    [pair] = verdict(comparison(*models)).pairs
    return pair


def studies(number: int, gain: float, spread: float, trained: int = 5, patients: int = 12) -> list[np.ndarray]:
    """(2, trained, patients) Dice each: the second model is better by `gain`; seeds of either differ by `spread`."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(number):
        base = rng.normal(0.6, 0.05, patients)
        seed = rng.normal(0, spread, (2, trained, 1))
        noise = rng.normal(0, 0.015, (2, trained, patients))
        found.append(np.clip(base + seed + noise + np.array([0, gain])[:, None, None], 0, 1))
    return found


def test_seeds_that_differ_by_more_than_the_models_make_no_winner_where_one_seed_would() -> None:
    """The reason for all of it: with one seed each, luck is called a better metric."""
    made = studies(60, gain=0.0, spread=0.05)
    by_one = sum(only(first[:1], second[:1]).better != "" for first, second in made)
    by_all = sum(only(first, second).better != "" for first, second in made)
    assert by_one > 0.6 * len(made), "patients alone do not see that a seed was lucky"
    assert by_all <= 0.05 * len(made) + 3 * np.sqrt(0.05 * 0.95 * len(made))
    first, second = next(both for both in made if only(both[0][:1], both[1][:1]).better)
    sentence = only(first, second).sentence
    assert "cannot be told apart" in sentence and "n = 12 patients, over 5 seeds each" in sentence
    assert "with as many seeds would take" in sentence


def test_a_difference_beyond_the_seeds_is_found() -> None:
    """A verdict that never dares would pass the test above."""
    made = studies(30, gain=0.08, spread=0.02)
    pairs = [only(first, second) for first, second in made]
    assert sum(pair.better == "B" for pair in pairs) > 0.9 * len(pairs)
    assert pairs[0].sentence.startswith("Dice model better than accuracy model by 0.0")
    assert pairs[0].sentence.endswith("n = 12 patients, over 5 seeds each.")
    assert pairs[0].seeds == (5, 5)


@pytest.mark.parametrize("trained", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.08])
def test_the_interval_covers_the_truth_also_with_few_seeds(
    trained: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds are far from each other or near by chance; percentiles of what was drawn would not cover."""
    monkeypatch.setattr(seeds, "RESAMPLES", 1_000)
    made = studies(300, gain=0.0, spread=spread, trained=trained, patients=8)
    found = [seeds.interval(first, second) for first, second in made]
    covered = sum(low <= 0 <= high for low, high in found) / len(found)
    assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(found))
    above = sum(seeds.t_test_p(first, second) < 0.05 for first, second in made) / len(made)
    assert above < 0.05 + 3 * np.sqrt(0.95 * 0.05 / len(made))


def test_the_error_is_that_of_patients_and_of_the_seeds_of_either_model() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(4, 7)), rng.normal(size=(3, 7))
    found = seeds.error(first, second)
    assert found.patients == pytest.approx(np.var(first.mean(0) - second.mean(0), ddof=1) / 7)
    assert [df for _, df in found.seeds] == [3, 2]
    plain = seeds.error(first[:1], second[:1])
    assert (plain.seeds, plain.freedom) == ((), 6)
    assert seeds.t_test_p(first[:1], second[:1]) == pytest.approx(stats.ttest_rel(first[0], second[0]).pvalue)


def test_the_variance_of_seeds_is_what_is_left_of_patients() -> None:
    """Seeds that shift all patients alike have all of theirs; what is noise of single patients is counted once."""
    shifts = np.array([[0.1], [0.2], [0.6]])
    shifted = seeds.error(shifts + np.linspace(0, 1, 9), np.zeros((1, 9)))
    assert shifted.seeds[0][0] == pytest.approx(np.var(shifts, ddof=1) / 3)
    rng = np.random.default_rng(2)
    noise = [seeds.error(rng.normal(size=(5, 40)), np.zeros((1, 40))).seeds[0][0] for _ in range(200)]
    assert min(noise) == 0
    assert np.mean(noise) < 0.5 * 1 / (5 * 40), "that of the mean of 200 numbers is in the patients' already"


def test_without_spread_nothing_is_divided_by_it() -> None:
    same = np.full((3, 6), 0.5)
    assert seeds.interval(same + 0.25, same) == (0.25, 0.25)
    assert (seeds.t_test_p(same, same), seeds.t_test_p(same + 0.25, same)) == (1, 0)


def test_p_is_never_below_that_of_the_patients() -> None:
    first, second = studies(1, gain=0.3, spread=0.0)[0]
    pair = only(first, second)
    assert pair.p is not None and pair.p >= 2 / 2**12
    assert pair.p >= seeds.t_test_p(first, second) - 1e-6


def test_a_model_that_was_trained_once_stands_beside_one_of_several_seeds_and_it_is_said() -> None:
    first, second = studies(1, gain=0.2, spread=0.02)[0]
    pair = only(first, second[:1])
    assert pair.seeds == (5, 1)
    assert "over 5 and 1 seeds" in pair.sentence
    mixed = verdict(comparison(seeded("accuracy", first), by_patient({"dice": second[0]}).evaluations[0]))
    assert any("trained once, another seed gives another model" in note for note in mixed.notes)


def test_notes_say_what_interval_and_p_are_over() -> None:
    first, second = studies(1, gain=0.2, spread=0.02)[0]
    notes = " ".join(verdict(comparison(seeded("accuracy", first), seeded("dice", second))).notes)
    assert "bootstrap over patients and seeds" in notes
    assert "the larger of a sign-flip test over patients and a t test over both" in notes
    assert "other seeds give other models" in notes and "Two or three seeds" not in notes
    few = verdict(comparison(seeded("accuracy", first[:3]), seeded("dice", second[:3]))).notes
    assert any("Two or three seeds say little" in note for note in few)
    plain = " ".join(verdict(by_patient({"accuracy": first[0], "dice": second[0]})).notes)
    assert "seeds" not in plain


def test_a_patient_that_is_undefined_for_one_seed_is_left_out() -> None:
    """Else each seed would be compared on other patients."""
    first, second = (np.clip(dice, 0.1, 0.9) for dice in studies(1, gain=0.0, spread=0.02, patients=8)[0])
    pair = only(first, second)
    assert pair.patients == 8
    model = seeded("accuracy", first)
    slices = list(model.seeds[1].model.slices)
    slices[3] = dataclasses.replace(slices[3], counts=Counts(tn=100))
    broken = dataclasses.replace(model.seeds[1], model=dataclasses.replace(model.seeds[1].model, slices=tuple(slices)))
    model = dataclasses.replace(model, seeds=(model.seeds[0], broken, *model.seeds[2:]))
    [pair] = verdict(comparison(model, seeded("dice", second))).pairs
    assert (pair.patients, pair.differences[3]) == (7, None)
    assert "1 left out: Dice undefined" in pair.sentence


def test_more_patients_alone_cannot_make_up_for_seeds() -> None:
    """'About 40 patients' would be a promise that the seeds break."""
    differences = np.array([0.02, 0.03, 0.01, 0.025, 0.015, 0.02, 0.03, 0.01])
    alone = paired_tests.patients_needed(differences, 1)
    assert alone is not None and alone < 20
    assert paired_tests.patients_needed(differences, 1, [(0.0, 4)]) == alone
    assert paired_tests.patients_needed(differences, 1, [(0.05**2, 4)]) == paired_tests.MOST + 1


def test_models_of_the_same_seeds_and_predictions_are_not_tested() -> None:
    first, _ = studies(1, gain=0.0, spread=0.02)[0]
    pair = only(first, first)
    assert pair.same and pair.p is None
    assert pair.sentence == "Accuracy and Dice model: the same predictions."


def test_few_patients_say_so_over_seeds_as_well() -> None:
    first, second = studies(1, gain=0.3, spread=0.01, patients=4)[0]
    pair = only(first, second)
    assert pair.sentence.startswith("Dice and accuracy model cannot be told apart: 4 test patients, over 5 seeds each.")
    one = only(first[:, :1], second[:, :1])
    assert one.better == "" and one.p == 1
