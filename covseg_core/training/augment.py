"""Random changes to a training slice and its mask, in NumPy and OpenCV, while the CPU trains on the slices before.

For slices that are fed; those that stay on the device are changed by `covseg_core.training.device_augment`, which does
the same, and would do it more slowly on a CPU.
"""

from __future__ import annotations

import cv2
import numpy as np

from covseg_core.config import AugmentConfig


def augment(
    image: np.ndarray, mask: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Change one slice; the same `rng` state gives the same result.

    Parameters
    ----------
    image : (S, S) uint8, 0..255; (S, S, C) with neighbours, which are changed alike
    mask : (S, S) uint8, 0/1, moved with the image

    Returns
    -------
    image and mask : shapes and types as given; new arrays, or the given ones where nothing changes
    """
    if config.flip or config.shift or config.scale or config.rotate:
        matrix = _affine(image.shape[0], config, rng)
        # one channel at a time: OpenCV moves four at most
        planes = image.reshape(*mask.shape, -1)
        moved = [
            cv2.warpAffine(planes[..., channel], matrix, mask.shape[::-1], flags=cv2.INTER_LINEAR)
            for channel in range(planes.shape[-1])
        ]
        image = np.stack(moved, axis=-1).reshape(image.shape)
        mask = cv2.warpAffine(mask, matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)
    if config.blur:
        image = _blurred(image, rng.uniform(0, config.blur))
    if config.contrast or config.brightness or config.gamma:
        image = cv2.LUT(image, _grey_curve(config, rng))
    if config.noise:
        deviation = 255 * config.noise * rng.random(dtype=np.float32)
        noise = deviation * rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    return image, mask


def _affine(size: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) matrix: rotation and scale about the centre of the slice, then mirror, then shift."""
    centre = (size - 1) / 2
    angle = rng.uniform(-config.rotate, config.rotate)
    scale = 1 + rng.uniform(-config.scale, config.scale)
    matrix = np.asarray(cv2.getRotationMatrix2D((centre, centre), angle, scale), np.float64)
    if rng.random() < 0.5 and config.flip:
        matrix[0] = -matrix[0]
        matrix[0, 2] += size - 1
    matrix[:, 2] += rng.uniform(-config.shift, config.shift, 2) * size
    return matrix


def _grey_curve(config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """(256,) uint8: gamma, contrast about the middle grey, then brightness."""
    contrast = 1 + rng.uniform(-config.contrast, config.contrast)
    brightness = 255 * rng.uniform(-config.brightness, config.brightness)
    grey = np.arange(256, dtype=np.float64)
    if config.gamma:
        grey = 255 * (grey / 255) ** np.exp(rng.uniform(-config.gamma, config.gamma))
    grey = (grey - 127.5) * contrast + 127.5 + brightness
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _blurred(image: np.ndarray, deviation: float) -> np.ndarray:
    """As a softer kernel or thicker slices would show it; a deviation of a quarter of a pixel changes nothing."""
    return cv2.GaussianBlur(image, (0, 0), deviation) if deviation > 0.25 else image
