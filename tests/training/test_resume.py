"""What a training resumes from is whole and its own, or it is refused: a curve must not jump without a word."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from covseg_core.config import ModelConfig
from covseg_core.errors import RunError
from covseg_core.runs import Run
from covseg_core.training.resume import last_epoch, load_last, saving_last
from covseg_core.training.unet import build_unet

pytestmark = pytest.mark.training


def _model(filters: int = 2, seed: int = 0, steps: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = build_unet(ModelConfig(filters, "batch"), 32, 120.0, 70.0)
    # a few steps are over before a graph would be traced
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy", run_eagerly=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
    for _ in range(steps):
        model.train_on_batch(images, (images > 200).astype(np.uint8))
    return model


def _save(run: Run, model: keras.Model, epoch: int) -> None:
    with saving_last(run, model, epoch):
        pass


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_weights_and_optimizer_come_back_to_the_bit(run):
    model, fresh = _model(steps=3), _model(seed=1)
    _save(run, model, 3)
    load_last(run, fresh, 3)
    for saved, loaded in zip(model.get_weights(), fresh.get_weights(), strict=True):
        assert np.array_equal(saved, loaded)
    for saved, loaded in zip(model.optimizer.variables, fresh.optimizer.variables, strict=True):
        assert np.array_equal(saved.numpy(), loaded.numpy()), saved.path


def test_only_the_last_complete_epoch_stays(run):
    model = _model(steps=1)
    assert last_epoch(run) == 0
    for epoch in (1, 2, 10000):
        _save(run, model, epoch)
    assert last_epoch(run) == 10000
    assert [folder.name for folder in run.last.iterdir()] == ["epoch_10000"]


def test_an_interrupted_save_leaves_the_epoch_before(run):
    model = _model(steps=1)
    _save(run, model, 1)
    with pytest.raises(OSError, match="power"), saving_last(run, model, 2):
        raise OSError("power")
    assert last_epoch(run) == 1
    assert [folder.name for folder in run.last.iterdir()] == ["epoch_0001"]


@pytest.mark.parametrize("name", ["model.weights.h5", "optimizer.npz"])
def test_a_damaged_state_is_refused(run, name):
    _save(run, _model(steps=1), 1)
    file = run.last / "epoch_0001" / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be resumed from"):
        load_last(run, _model(), 1)


def test_the_state_of_another_network_is_refused(run):
    _save(run, _model(filters=2, steps=1), 1)
    with pytest.raises(RunError, match="cannot be resumed from"):
        load_last(run, _model(filters=4), 1)


def test_the_state_of_another_optimizer_is_refused(run):
    """Keras would warn and start with a fresh one: the curve would jump."""
    _save(run, _model(steps=1), 1)
    scaled = _model()
    scaled.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "binary_crossentropy")
    with pytest.raises(RunError, match="another precision"):
        load_last(run, scaled, 1)
