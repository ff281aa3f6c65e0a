"""Augmentation moves the mask with the image and repeats itself by seed; else a model learns noise."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.config import AugmentConfig
from covseg_core.training.augment import augment

SIZE = 64


def _slice() -> tuple[np.ndarray, np.ndarray]:
    """A bright blob left of and above the centre, and its mask."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mask = ((rows - 24) ** 2 + (columns - 20) ** 2 < 64).astype(np.uint8)
    return mask * 200 + 20, mask


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize(
    "config", [AugmentConfig(flip=True), AugmentConfig(shift=0.2), AugmentConfig(scale=0.3), AugmentConfig(rotate=30)]
)
@pytest.mark.parametrize("seed", range(6))
def test_the_mask_moves_with_the_image(config, seed):
    image, mask = augment(*_slice(), config, np.random.default_rng(seed))
    bright = image > 120
    agreement = 2 * (bright & (mask > 0)).sum() / (bright.sum() + mask.sum())
    assert agreement > 0.9
    assert set(np.unique(mask)) <= {0, 1}
    assert (image.dtype, mask.dtype) == (np.uint8, np.uint8)


def test_flip_mirrors_left_and_right_exactly():
    """A shift by a pixel at every flip would blur what the model learns of borders."""
    seen = set()
    for seed in range(20):
        image, mask = augment(*_slice(), AugmentConfig(flip=True), np.random.default_rng(seed))
        plain, plain_mask = _slice()
        mirrored = np.array_equal(image, plain[:, ::-1]) and np.array_equal(mask, plain_mask[:, ::-1])
        unchanged = np.array_equal(image, plain) and np.array_equal(mask, plain_mask)
        assert mirrored or unchanged
        seen.add(mirrored)
    assert seen == {True, False}


def test_shift_stays_within_its_bounds():
    moves = [
        _centre(augment(*_slice(), AugmentConfig(shift=0.1), np.random.default_rng(seed))[1]) - _centre(_slice()[1])
        for seed in range(30)
    ]
    assert np.abs(moves).max() <= 0.1 * SIZE + 1
    assert np.abs(moves).max() > 2


@pytest.mark.parametrize(
    "change", [{"contrast": 0.3}, {"brightness": 0.2}, {"noise": 0.1}, {"gamma": 0.5}, {"blur": 20.0}]
)
def test_grey_values_change_and_the_mask_does_not(change):
    image, mask = augment(*_slice(), AugmentConfig(**change), np.random.default_rng(3))
    assert not np.array_equal(image, _slice()[0])
    assert np.array_equal(mask, _slice()[1])


@pytest.mark.parametrize("channels", [3, 11])
def test_neighbours_are_changed_with_their_slice(channels):
    """Without it no training with `prepare.context` would get past its first step."""
    image, mask = _slice()
    config = AugmentConfig(True, 0.1, 0.2, 10, 0.2, 0.1, 0.0, 0.3, 1.0)
    for seed in range(4):
        alone, alone_mask = augment(image, mask, config, np.random.default_rng(seed))
        stack = np.repeat(image[..., None], channels, axis=-1)
        together, together_mask = augment(stack, mask, config, np.random.default_rng(seed))
        assert together.shape == stack.shape
        assert all(np.array_equal(together[..., channel], alone) for channel in range(channels))
        assert np.array_equal(together_mask, alone_mask)


def test_the_same_seed_gives_the_same_slice():
    config = AugmentConfig(True, 0.1, 0.2, 10, 0.2, 0.1, 0.05, 0.3, 1.0)
    first, second = (augment(*_slice(), config, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], augment(*_slice(), config, np.random.default_rng(6))[0])


def test_no_augmentation_changes_nothing():
    image, mask = augment(*_slice(), AugmentConfig(), np.random.default_rng(0))
    assert np.array_equal(image, _slice()[0])
    assert np.array_equal(mask, _slice()[1])


@pytest.mark.parametrize("channels", [3, 11])
@pytest.mark.parametrize(
    "config", [AugmentConfig(True, 0.1, 0.2, 10), AugmentConfig(contrast=0.3, gamma=0.5), AugmentConfig(blur=2.0)]
)
def test_neighbours_are_changed_as_the_slice_is(config, channels):
    """A neighbour that is turned another way would show the network a body that cannot be."""
    image, mask = _slice()
    stack = np.stack([image // (number + 1) for number in range(channels)], axis=-1)
    changed, moved = augment(stack, mask, config, np.random.default_rng(4))
    assert (changed.shape, changed.dtype, moved.shape) == (stack.shape, np.uint8, mask.shape)
    for number in range(channels):
        alone, alone_mask = augment(np.ascontiguousarray(stack[..., number]), mask, config, np.random.default_rng(4))
        # with more than four channels OpenCV interpolates to one more or less fixed digit
        assert np.abs(changed[..., number].astype(int) - alone).max() <= (8 if channels > 4 else 0)
        assert np.array_equal(moved, alone_mask)


def test_every_kind_of_augmentation_takes_neighbours():
    config = AugmentConfig(True, 0.1, 0.2, 10, 0.2, 0.1, 0.05, 0.3, 1.0)
    padded = np.zeros((SIZE, SIZE, 3), np.uint8)
    padded[10:50, 20:45] = np.random.default_rng(0).integers(1, 255, (40, 25, 3))
    image, mask = augment(padded, padded[..., 0] // 255, config, np.random.default_rng(0))
    assert (image.shape, mask.shape) == (padded.shape, padded.shape[:2])
