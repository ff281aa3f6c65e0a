"""The moving average of the weights. What a user loses otherwise: curves of other weights than predict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from covseg_core.config import ModelConfig, PrepareConfig, RunConfig, SplitConfig, TrainConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.slice_set import load_slices
from covseg_core.data.splitting.split import make_split
from covseg_core.runs import Run, create_run
from covseg_core.training import resume, train
from covseg_core.training.batches import PlainBatches
from covseg_core.training.device import set_up
from covseg_core.training.heartbeat import StopRequested

pytestmark = pytest.mark.training


class Pulse:
    """A heart that writes nothing, and asks to stop once an epoch is over."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop, self._after = threading.Event(), stop_after

    def note(self, **changes: Any) -> None: ...

    def write(self, epoch: int = 0, **changes: Any) -> None:
        if epoch and epoch == self._after:
            self.stop.set()


@pytest.fixture
def make_run(small_phantoms: Callable[..., Dataset]) -> Callable[[str], Run]:
    dataset = small_phantoms(3)

    def make(id: str) -> Run:
        split = SplitConfig(fractions=(0.34, 0.33, 0.33))
        config = RunConfig(
            id=id,
            experiment="e",
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            metric="combined",
            preset="quick",
            created="2026-01-02T03:04:05+00:00",
            prepare=PrepareConfig(size=16),
            split=split,
            model=ModelConfig(filters=2),
            train=TrainConfig(batch=4, epochs=3, learning_rate=1e-2, ema=0.8),
        )
        return create_run(config, make_split(dataset, split, config.target))

    return make


def fitted(run: Run, stop_after: int = 0) -> Run:
    heart = Pulse(stop_after)
    try:
        train.train(run, heart, heart.stop)  # type: ignore[arg-type]
    except StopRequested:
        assert stop_after
    return run


def test_the_average_is_validated_and_kept_and_a_resumed_run_ends_as_if_it_had_not_been_interrupted(
    make_run: Callable[[str], Run], small_phantoms: Callable[..., Dataset]
) -> None:
    whole, broken = fitted(make_run("whole")), fitted(make_run("broken"), stop_after=1)
    assert [row["epoch"] for row in broken.history()] == [1]
    fitted(broken)
    for expected, found in zip(whole.history(), broken.history(), strict=True):
        for name in set(expected) - {"seconds", "total_seconds"}:
            assert found[name] == pytest.approx(expected[name], abs=1e-6), (expected["epoch"], name)

    config = whole.config
    validation = load_slices(train.load_unchanged(config), whole.split.validation, config.prepare)
    model = train.compiled(config, whole.standardisation, 0.1, set_up("float32"))

    def loss() -> float:
        return model.evaluate(PlainBatches(validation, 4), return_dict=True, verbose=0)["loss"]

    rows = whole.history()
    best = max(rows, key=lambda row: row["val_dice_foreground"])
    keras.Model(model.inputs, model.outputs).load_weights(whole.best_weights)
    assert loss() == pytest.approx(best["val_loss"], rel=1e-4), "what is kept is what was validated"
    resume.load_last(whole, model, 3)
    raw, weights = loss(), model.get_weights()
    assert raw != pytest.approx(rows[-1]["val_loss"], rel=1e-4), "what goes on training is not the average"
    resume.load_last(broken, model, 3)
    assert all(np.allclose(*pair, atol=1e-6) for pair in zip(weights, model.get_weights(), strict=True))
