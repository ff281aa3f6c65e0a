"""Best epoch, learning rate and early stopping follow from the scores alone, so that resuming cannot change them."""

from __future__ import annotations

import math

import pytest

from covseg_core.config import TrainConfig
from covseg_core.runs.history import best_epoch
from covseg_core.training.schedule import learning_rate, should_stop


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], 0), ([0.0], 1), ([0.1, 0.3, 0.2], 2), ([0.5, 0.5], 1), ([math.nan, 0.1], 2), ([math.nan], 0)],
)
def test_best_epoch_is_the_first_of_the_highest(scores, expected):
    assert best_epoch(scores) == expected


def test_constant_rate():
    config = TrainConfig(learning_rate=0.01)
    assert {learning_rate(config, [0.1] * count) for count in range(5)} == {0.01}


def test_cosine_falls_from_the_full_rate_to_a_hundredth():
    config = TrainConfig(epochs=5, learning_rate=0.01, schedule="cosine")
    rates = [learning_rate(config, [0.0] * count) for count in range(5)]
    assert rates[0] == 0.01
    assert rates[2] == pytest.approx(0.01 * 0.505)
    assert rates[-1] == pytest.approx(0.0001)
    assert rates == sorted(rates, reverse=True)


def test_cosine_of_a_single_epoch():
    assert learning_rate(TrainConfig(epochs=1, learning_rate=0.01, schedule="cosine"), []) == 0.01


def test_plateau_halves_after_five_epochs_without_a_better_score():
    config = TrainConfig(learning_rate=0.8, schedule="plateau")
    assert learning_rate(config, [0.5, 0.4, 0.4, 0.4, 0.4]) == 0.8
    assert learning_rate(config, [0.5, 0.4, 0.4, 0.4, 0.4, 0.4]) == 0.4
    assert learning_rate(config, [0.5] + [0.4] * 10) == 0.2
    assert learning_rate(config, [0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.4]) == 0.8


def test_early_stopping_counts_from_the_best_epoch():
    config = TrainConfig(patience=3)
    assert not should_stop(config, [0.5, 0.4, 0.4])
    assert should_stop(config, [0.5, 0.4, 0.4, 0.4])
    assert not should_stop(config, [0.5, 0.4, 0.6, 0.4])
    assert not should_stop(TrainConfig(patience=0), [0.5] + [0.1] * 50)
