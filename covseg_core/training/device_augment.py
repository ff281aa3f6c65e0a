"""Random changes to training slices on the device that trains, as part of its compiled step.

The same transforms as `covseg_core.training.augment`, in the same order, written against `keras.ops`. All that is drawn
follows from two numbers for each slice, by a hash and not by a backend's generator, so that every backend draws alike.
"""

from __future__ import annotations

import math

from keras import ops

from covseg_core.config import AugmentConfig

ANGLE, SCALE, FLIP, RIGHT, DOWN, BLUR, CONTRAST, BRIGHTNESS, GAMMA, NOISE = range(10)
"""Which of a slice's numbers decides what."""
DRAWS = 16
"""Numbers before those of the pixels' noise."""


def augmented(images, masks, seeds, config: AugmentConfig):
    """Change the slices of a batch; the same seeds give the same result.

    Parameters
    ----------
    images : (B, S, S, C) uint8, 0..255
    masks : (B, S, S, 1) uint8, 0/1, moved with the images
    seeds : (B, 2) uint32, two numbers for each slice

    Returns
    -------
    (B, S, S, C) uint8, (B, S, S, 1) uint8
    """
    if config == AugmentConfig():
        return images, masks
    draws = uniform(seeds, 0, DRAWS)[0]
    if config.flip or config.shift or config.scale or config.rotate:
        x, y = _origins(images.shape[1], draws, config)
        images, masks = _interpolated(images, x, y), _pixels(masks, ops.floor(x + 0.5), ops.floor(y + 0.5))
    grey = ops.cast(images, "float32")
    if config.blur:
        grey = _blurred(grey, config.blur * draws[:, BLUR])
    if config.contrast or config.brightness or config.gamma:
        grey = _through_curve(grey, draws, config)
    if config.noise:
        grey = grey + 255 * config.noise * _broad(draws[:, NOISE]) * _normal(seeds, grey)
    return ops.cast(ops.clip(ops.round(grey), 0, 255), "uint8"), masks


def uniform(seeds, start: int, count: int):
    """Two numbers of each seed and place that look random, from 0 to below 1.

    Source: pcg3d of Jarzynski and Olano, "Hash functions for GPU rendering", JCGT 9(3), 2020.

    Parameters
    ----------
    seeds : (B, 2) uint32
    start, count : places `start` to `start + count - 1`

    Returns
    -------
    (B, count) float32, (B, count) float32
    """
    place = ops.cast(ops.arange(start, start + count, dtype="int32"), "uint32")[None, :]
    x, y, z = (1664525 * value + 1013904223 for value in (seeds[:, :1], seeds[:, 1:], place))
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (ops.bitwise_xor(value, ops.right_shift(value, 16)) for value in (x, y, z))
    x = x + y * z
    y = y + z * x
    # 24 bits are what a float32 holds
    return tuple(ops.cast(ops.right_shift(value, 8), "float32") * 2.0**-24 for value in (x, y))


def _normal(seeds, like):
    """Of the shape of `like`, (B, S, S, C) float32: standard normal, by Box and Muller."""
    first, second = uniform(seeds, DRAWS, math.prod(like.shape[1:]))
    normal = ops.sqrt(-2 * ops.log(1 - first)) * ops.cos(2 * math.pi * second)
    return ops.reshape(normal, (-1, *like.shape[1:]))


def _origins(size: int, draws, config: AugmentConfig):
    """Where each pixel comes from: column and row, (B, S, S) float32 each.

    The way back of mirror, rotation and scale about the centre of the slice, and shift.
    """
    centre = (size - 1) / 2
    angle = _broad(math.radians(config.rotate) * _signed(draws[:, ANGLE]), 3)
    scale = _broad(1 + config.scale * _signed(draws[:, SCALE]), 3)
    mirror = _broad(ops.where((draws[:, FLIP] < 0.5) & config.flip, -1.0, 1.0), 3)
    right, down = (_broad(config.shift * size * _signed(draws[:, place]), 3) for place in (RIGHT, DOWN))
    along = ops.cast(ops.arange(size, dtype="int32"), "float32") - centre
    x, y = mirror * (along[None, None, :] - right), along[None, :, None] - down
    cosine, sine = ops.cos(angle) / scale, ops.sin(angle) / scale
    return centre + cosine * x - sine * y, centre + sine * x + cosine * y


def _interpolated(images, x, y):
    """(B, S, S, C) float32 from between the pixels; beyond the slice lies 0."""
    left, top = ops.floor(x), ops.floor(y)
    right_share, low_share = (x - left)[..., None], (y - top)[..., None]
    upper, lower = (
        (1 - right_share) * ops.cast(_pixels(images, left, row), "float32")
        + right_share * ops.cast(_pixels(images, left + 1, row), "float32")
        for row in (top, top + 1)
    )
    return (1 - low_share) * upper + low_share * lower


def _pixels(images, column, row):
    """Pixels of whole places (B, S, S); 0 beyond the slice."""
    size, channels = images.shape[1], images.shape[3]
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    column, row = (ops.cast(ops.clip(place, 0, size - 1), "int32") for place in (column, row))
    number = ops.arange(ops.shape(images)[0], dtype="int32")[:, None, None]
    there = ops.take(ops.reshape(images, (-1, channels)), (number * size + row) * size + column, axis=0)
    return ops.where(inside[..., None], there, ops.zeros_like(there))


def _blurred(grey, deviation):
    """Gaussian blur of deviation (B,) pixels along both axes, slices reflected at their edges, as OpenCV does it.

    Each axis is one product with a matrix of weights: any width costs the same, and the device is made for it.
    """
    size = grey.shape[1]
    deviation = _broad(deviation, 3)
    reach = ops.floor(ops.floor(6 * deviation + 1.5) / 2)
    place = ops.cast(ops.arange(size, dtype="int32"), "float32")
    to, of = place[None, :, None], place[None, None, :]

    def weight(distance):
        bell = ops.exp(-0.5 * (distance / ops.maximum(deviation, 0.25)) ** 2)
        # a deviation of a quarter of a pixel changes nothing
        return ops.where(deviation > 0.25, ops.where(distance <= reach, bell, 0.0), ops.where(distance == 0, 1.0, 0.0))

    before = ops.where(of > 0, weight(to + of), 0.0)
    behind = ops.where(of < size - 1, weight(2 * (size - 1) - to - of), 0.0)
    weights = weight(ops.abs(to - of)) + before + behind
    weights = weights / ops.sum(weights, axis=2, keepdims=True)
    rows = ops.einsum("byr,brxc->byxc", weights, grey)
    return ops.einsum("bxs,bysc->byxc", weights, rows)


def _through_curve(grey, draws, config: AugmentConfig):
    """Gamma, contrast about the middle grey, then brightness."""
    if config.gamma:
        power = _broad(ops.exp(config.gamma * _signed(draws[:, GAMMA])))
        grey = 255 * (ops.clip(grey, 0, 255) / 255) ** power
    contrast = _broad(1 + config.contrast * _signed(draws[:, CONTRAST]))
    brightness = _broad(255 * config.brightness * _signed(draws[:, BRIGHTNESS]))
    return ops.clip((grey - 127.5) * contrast + 127.5 + brightness, 0, 255)


def _signed(draw):
    """From 0..1 to -1..1."""
    return 2 * draw - 1


def _broad(values, axes: int = 4):
    """(B,) with further axes of length 1."""
    return ops.reshape(values, (-1, *[1] * (axes - 1)))
