"""Timing of training steps: in a process of its own, with the network that will be trained."""

from __future__ import annotations

import pytest

from covseg_core.config import AugmentConfig, ModelConfig, PrepareConfig, TrainConfig
from covseg_core.runs import time_estimate
from covseg_core.runs.time_estimate import Network
from covseg_core.training import step_time

pytestmark = pytest.mark.training


def test_a_small_network_is_timed_and_the_figure_is_used() -> None:
    """The page shows it as `measured on this computer`."""
    model = ModelConfig(filters=2, normalization="batch", informed_bias=True)
    network = Network(PrepareConfig(size=32), model, TrainConfig(batch=2, augment=AugmentConfig(flip=True)))
    found = time_estimate.measure(network)
    assert found.seconds_per_slice > 0
    assert found.startup > found.seconds_per_slice * 2, "it holds imports and tracing"
    assert "tensorflow" in found.device
    speed = time_estimate.find_speed(network)
    assert speed is not None
    assert (speed.basis, speed.device, speed.seconds_per_slice) == ("measured", found.device, found.seconds_per_slice)


def test_no_slice_of_the_noise_is_left_out() -> None:
    """Presets drop a share of the slices without lesion; the batches would be smaller than in training."""
    slices = step_time._noise(4, PrepareConfig(size=32))
    assert slices.images.shape == slices.masks.shape == (4, 32, 32)
    assert slices.masks.any(axis=(1, 2)).all()
    assert set(slices.masks.ravel()) == {0, 1}
