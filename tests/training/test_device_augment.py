"""Augmentation on the device is that of the CPU: else a model would learn other things on a GPU than on a CPU.

The draws come from another generator, so that the two are held together by what their transforms do over many seeds.
"""

from __future__ import annotations

import cv2
import keras
import numpy as np
import pytest

from covseg_core.config import PRESETS, AugmentConfig
from covseg_core.training import device_augment
from covseg_core.training.augment import augment
from covseg_core.training.device_augment import augmented, uniform

pytestmark = pytest.mark.training

SIZE = 48
COUNT = 400


def _slice() -> tuple[np.ndarray, np.ndarray]:
    """A bright blob left of and above the centre on a grey ramp, and its mask."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mask = ((rows - 20) ** 2 + (columns - 17) ** 2 < 36).astype(np.uint8)
    return mask * 150 + columns.astype(np.uint8) + 20, mask


def _seeds(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)


def _on_device(config: AugmentConfig, image=None, mask=None, seeds=None) -> tuple[np.ndarray, np.ndarray]:
    """Of one slice as many ways as there are seeds: (B, S, S) uint8 each."""
    image, mask = (_slice()[0] if image is None else image), (_slice()[1] if mask is None else mask)
    seeds = _seeds() if seeds is None else seeds
    images = np.broadcast_to(image[..., None], (len(seeds), *image.shape, 1))
    masks = np.broadcast_to(mask[..., None], (len(seeds), *mask.shape, 1))
    changed = augmented(*map(keras.ops.convert_to_tensor, (images, masks, seeds)), config)
    images, masks = map(keras.ops.convert_to_numpy, changed)
    assert (images.dtype, masks.dtype) == (np.uint8, np.uint8)
    return images[..., 0], masks[..., 0]


def _on_cpu(config: AugmentConfig) -> tuple[np.ndarray, np.ndarray]:
    pairs = [augment(*_slice(), config, np.random.default_rng(seed)) for seed in range(COUNT)]
    return np.array([image for image, _ in pairs]), np.array([mask for _, mask in pairs])


def _alike(first: np.ndarray, second: np.ndarray, spread: float = 0.15) -> None:
    """Means within four standard errors, standard deviations within 15 %."""
    error = np.sqrt(first.var() / len(first) + second.var() / len(second)) + 1e-6
    assert abs(first.mean() - second.mean()) < 4 * error + 0.02, (first.mean(), second.mean(), error)
    assert first.std() == pytest.approx(second.std(), rel=spread, abs=0.02)


def _centres(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    area = masks.sum(axis=(1, 2))
    kept = area > 0
    return tuple((masks * place).sum(axis=(1, 2))[kept] / area[kept] for place in (rows, columns))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=True),
        AugmentConfig(shift=0.15),
        AugmentConfig(scale=0.3),
        AugmentConfig(rotate=30),
        AugmentConfig(flip=True, shift=0.1, scale=0.2, rotate=12),
    ],
    ids=["flip", "shift", "scale", "rotate", "all"],
)
def test_slices_move_as_on_the_cpu_and_masks_with_them(config: AugmentConfig) -> None:
    (images, masks), (cpu_images, cpu_masks) = _on_device(config), _on_cpu(config)
    assert set(np.unique(masks)) <= {0, 1}, "a mask has no values between"
    for ours, theirs in zip(_centres(masks), _centres(cpu_masks), strict=True):
        _alike(ours, theirs)
    _alike(masks.sum(axis=(1, 2)), cpu_masks.sum(axis=(1, 2)))
    _alike(images.mean(axis=(1, 2)), cpu_images.mean(axis=(1, 2)))
    bright = images > 130
    agreement = 2 * (bright & (masks > 0)).sum() / (bright.sum() + masks.sum())
    assert agreement > 0.9


def test_a_mirrored_slice_is_mirrored_exactly() -> None:
    images, masks = _on_device(AugmentConfig(flip=True))
    image, mask = _slice()
    mirrored = (images == image[:, ::-1]).all(axis=(1, 2)) & (masks == mask[:, ::-1]).all(axis=(1, 2))
    unchanged = (images == image).all(axis=(1, 2)) & (masks == mask).all(axis=(1, 2))
    assert (mirrored | unchanged).all()
    assert 0.4 < mirrored.mean() < 0.6


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(contrast=0.3),
        AugmentConfig(brightness=0.1),
        AugmentConfig(gamma=0.4),
        AugmentConfig(noise=0.06),
        AugmentConfig(blur=2.0),
        AugmentConfig(contrast=0.2, brightness=0.1, gamma=0.3, noise=0.04, blur=1.0),
    ],
    ids=["contrast", "brightness", "gamma", "noise", "blur", "all"],
)
def test_grey_values_change_as_on_the_cpu(config: AugmentConfig) -> None:
    (images, masks), (cpu_images, _) = _on_device(config), _on_cpu(config)
    assert (masks == _slice()[1]).all()
    for statistic in (np.mean, np.std):
        _alike(statistic(images, axis=(1, 2)), statistic(cpu_images, axis=(1, 2)))
    # of single pixels: the brightest blob, an edge, the background
    for row, column in ((20, 17), (20, 23), (40, 40)):
        _alike(images[:, row, column].astype(float), cpu_images[:, row, column].astype(float))


@pytest.mark.parametrize("deviation", [0.1, 0.3, 0.9, 2.5])
def test_a_blur_is_that_of_opencv(deviation: float) -> None:
    """At the edges, too, where slices are reflected."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
    blurred = device_augment._blurred(keras.ops.cast(noise[None, ..., None], "float32"), np.float32([deviation]))
    expected = cv2.GaussianBlur(noise, (0, 0), deviation) if deviation > 0.25 else noise
    found = np.rint(keras.ops.convert_to_numpy(blurred)[0, ..., 0])
    assert np.abs(found - expected).max() <= 1, "OpenCV rounds its weights to 1/256"


def test_neighbours_of_a_slice_move_with_it() -> None:
    image, mask = _slice()
    images = np.broadcast_to(np.stack([image, image, image], axis=-1), (8, SIZE, SIZE, 3))
    masks = np.broadcast_to(mask[..., None], (8, SIZE, SIZE, 1))
    config = AugmentConfig(flip=True, shift=0.1, rotate=10, gamma=0.3)
    changed = keras.ops.convert_to_numpy(
        augmented(*map(keras.ops.convert_to_tensor, (images, masks, _seeds(8))), config)[0]
    )
    assert changed.shape == images.shape
    assert (changed[..., 0] == changed[..., 1]).all()
    assert (changed[..., 0] == changed[..., 2]).all()


def test_the_same_seeds_give_the_same_slices_wherever_they_stand_in_a_batch() -> None:
    """An epoch must not depend on the batch's size, nor on what else is in it."""
    config = PRESETS["standard"].train.augment
    seeds = _seeds(6)
    all_images, all_masks = _on_device(config, seeds=seeds)
    images, masks = _on_device(config, seeds=seeds[[4, 1]])
    assert np.array_equal(images, all_images[[4, 1]])
    assert np.array_equal(masks, all_masks[[4, 1]])
    assert len({image.tobytes() for image in all_images}) == 6


def test_no_augmentation_changes_nothing() -> None:
    images, masks = _on_device(AugmentConfig(), seeds=_seeds(2))
    assert (images == _slice()[0]).all()
    assert (masks == _slice()[1]).all()


def test_numbers_look_random() -> None:
    """Evenly spread, and none tells about another: of a seed, of neighbouring seeds, of neighbouring places."""
    seeds = np.stack([np.arange(2000), np.zeros(2000)], axis=1).astype(np.uint32)  # as bad as seeds can be
    for numbers in map(keras.ops.convert_to_numpy, uniform(keras.ops.convert_to_tensor(seeds), 0, 20)):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts, _ = np.histogram(numbers, bins=16, range=(0, 1))
        assert np.abs(counts / counts.mean() - 1).max() < 0.1
        assert np.abs(np.corrcoef(numbers.T) - np.eye(20)).max() < 0.12
        assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.12
