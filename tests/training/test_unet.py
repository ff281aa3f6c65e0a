"""The network is the thesis's, or the numbers a user reports under its name are of something else."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from covseg_core.config import ModelConfig
from covseg_core.training.unet import build_unet

pytestmark = pytest.mark.training


def test_the_paper_model_has_the_parameters_of_the_thesis():
    assert build_unet(ModelConfig(filters=32), 256).count_params() == 7_759_521


def test_each_level_doubles_the_channels_and_halves_the_side():
    model = build_unet(ModelConfig(filters=2), 64)
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}
    assert shapes["encoder1b_relu"] == (64, 64, 2)
    assert shapes["encoder4b_relu"] == (8, 8, 16)
    assert shapes["bottleneckb_relu"] == (4, 4, 32)
    assert shapes["decoder1_skip"] == (64, 64, 4)
    assert shapes["masks"] == (64, 64, 1)


def test_standardisation_is_part_of_the_model():
    """Whoever feeds grey values 0..255 gets what was trained, without knowing the training mean."""
    keras.utils.set_random_seed(1)
    inside = build_unet(ModelConfig(filters=2), 32, mean=100.0, std=50.0)
    plain = build_unet(ModelConfig(filters=2), 32)
    plain.set_weights(inside.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    standardised = (images.astype(np.float32) - 100.0) / 50.0
    after_rescaling = keras.Model(plain.get_layer("standardise").output, plain.output)
    expected = after_rescaling.predict(standardised, verbose=0)
    assert inside.predict(images, verbose=0) == pytest.approx(expected, abs=1e-5)


def test_the_same_seed_gives_the_same_first_weights():
    """The three metrics' models are comparable only if they start alike."""
    first, second = (_seeded(7).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, _seeded(8).get_weights(), strict=True))


def test_an_informed_bias_starts_at_the_share_of_positive_pixels():
    model = build_unet(ModelConfig(filters=2, informed_bias=True), 32, positive_share=0.02)
    bias = model.get_layer("masks").get_weights()[1]
    assert 1 / (1 + np.exp(-bias)) == pytest.approx(0.02, rel=1e-5)
    plain = build_unet(ModelConfig(filters=2), 32, positive_share=0.02)
    assert plain.get_layer("masks").get_weights()[1] == pytest.approx(0)


def test_batch_normalisation_replaces_the_bias():
    names = {layer.name for layer in build_unet(ModelConfig(filters=2, normalization="batch"), 32).layers}
    assert "bottlenecka_norm" in names
    assert not any(name.endswith("_norm") for name in {layer.name for layer in build_unet(ModelConfig(2), 32).layers})


def _seeded(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_unet(ModelConfig(filters=2), 32)
