"""A drawn body around a slice that was cropped to the lungs and padded, so that a model learns to ignore one.

Some public data hold only the bounding box of the lungs. A model that has seen nothing else finds lungs and lesions in
skin, arms, the table and the air of a scan with its full field of view. What is drawn need not be anatomy: it has the
grey levels, the edges and the texture of what surrounds lungs, so that none of them alone means lung.
"""

from __future__ import annotations

import cv2
import numpy as np

AIR, FAT, MUSCLE, BONE = 42, 196, 221, 255
"""Grey levels of -1000, -100, 50 and 250 HU in the window -1250..250 HU."""
TOLERANCE = 3
"""Grey levels by which padding may differ from itself, after resizing."""
FULL = 0.9
"""A box that fills more of the side than this has nothing around it."""


def content_box(image: np.ndarray) -> tuple[int, int, int, int] | None:
    """Where a padded slice has content.

    Parameters
    ----------
    image : (S, S) uint8; of (S, S, C) all channels count

    Returns
    -------
    top, bottom, left, right : pixels, bottom and right excluded; None where the slice is not padded on all sides, or
        holds nothing
    """
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
    if np.ptp(corners) > TOLERANCE:
        return None
    filled = np.abs(image.astype(np.int16) - corners.flat[0]) > TOLERANCE
    if filled.ndim == 3:
        filled = filled.any(axis=-1)
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(rows):
        return None
    box = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    height, width = box[1] - box[0], box[3] - box[2]
    side = len(image)
    return box if max(height, width) <= FULL * side and min(height, width) >= 0.1 * side else None


def surround(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a body, arms, a table and air in the padding of a slice; its content stays as it is.

    Parameters
    ----------
    image : (S, S) uint8, 0..255 in the window -1250..250 HU; (S, S, C) with neighbours, which get the same body

    Returns
    -------
    As `image` : a new array, or the given one where it has no padding to draw in
    """
    box = content_box(image)
    if box is None:
        return image
    top, bottom, left, right = box
    top, bottom, left, right = top + 1, bottom - 1, left + 1, right - 1  # resizing has mixed padding into the border
    canvas = _air(image.shape[0], rng)
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    half = np.array([right - left, bottom - top]) / 2
    _draw_body(canvas, centre, half, rng)
    if rng.random() < 0.5:
        _draw_haze(canvas, centre, half, rng)
    canvas += rng.uniform(0, 7) * _texture(canvas.shape, rng)
    if rng.random() < 0.3:
        _cut_circle(canvas, rng)
    drawn = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    if image.ndim == 3:
        drawn = np.repeat(drawn[..., None], image.shape[-1], axis=-1)
    drawn[top:bottom, left:right] = image[top:bottom, left:right]
    return drawn


def _air(side: int, rng: np.random.Generator) -> np.ndarray:
    """(S, S) float32: air as dark as calibrated, or as dark as the window goes."""
    return np.full((side, side), rng.choice([0.0, rng.uniform(AIR - 12, AIR + 12)]), np.float32)


def _draw_body(canvas: np.ndarray, centre: np.ndarray, half: np.ndarray, rng: np.random.Generator) -> None:
    """Table, arms, skin, fat, muscle and ribs, from the outside in."""
    wall = rng.uniform(0.06, 0.2)
    inner = half * (1 + wall)
    outer = inner * (1 + rng.uniform(0.04, 0.3, 2))
    middle = centre + rng.uniform(-0.05, 0.05, 2) * half
    if rng.random() < 0.7:
        _draw_table(canvas, middle[1] + outer[1] * rng.uniform(0.98, 1.12), middle[0], outer[0], rng)
    if rng.random() < 0.25:
        for sign in (-1, 1):
            place = middle + np.array([sign * outer[0] * rng.uniform(1.15, 1.4), outer[1] * rng.uniform(-0.3, 0.5)])
            _draw_limb(canvas, place, half[0] * rng.uniform(0.15, 0.3), rng)
    fat = rng.uniform(FAT - 12, FAT + 8)
    if rng.random() < 0.6:  # skin
        _ellipse(canvas, middle, outer + max(1.0, 0.01 * len(canvas)), MUSCLE)
    _ellipse(canvas, middle, outer, fat)
    _ellipse(canvas, centre, inner, rng.uniform(MUSCLE - 10, MUSCLE + 10))
    for _ in range(rng.integers(6, 22)):
        angle = rng.uniform(0, 2 * np.pi)
        place = centre + inner * rng.uniform(0.92, 1.0) * np.array([np.cos(angle), np.sin(angle)])
        size = half.mean() * rng.uniform(0.02, 0.06)
        _ellipse(canvas, place, (size * rng.uniform(1, 4), size), rng.uniform(235, BONE), np.degrees(angle) + 90)
    for _ in range(rng.integers(0, 10)):  # fat between muscles
        angle = rng.uniform(0, 2 * np.pi)
        place = centre + inner * rng.uniform(0.9, 1.02) * np.array([np.cos(angle), np.sin(angle)])
        size = half.mean() * rng.uniform(0.02, 0.08)
        _ellipse(canvas, place, (size * rng.uniform(1, 5), size), fat, np.degrees(angle) + 90)


def _draw_haze(canvas: np.ndarray, centre: np.ndarray, half: np.ndarray, rng: np.random.Generator) -> None:
    """Soft spots as grey as lesions: partial volume at skin and ribs, gas in the bowel, foam and cables."""
    for _ in range(rng.integers(1, 7)):
        place = centre + half * rng.uniform(-1.7, 1.7, 2)
        spot = np.zeros_like(canvas)
        _ellipse(spot, place, half.mean() * rng.uniform(0.03, 0.25, 2), 1.0, rng.uniform(0, 180))
        if rng.random() < 0.6:
            spot = cv2.GaussianBlur(spot, (0, 0), half.mean() * rng.uniform(0.01, 0.06) + 0.3)
        canvas += spot * (rng.uniform(70, 200) - canvas)


def _draw_limb(canvas: np.ndarray, place: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    _ellipse(canvas, place, (radius, radius * rng.uniform(0.8, 1.3)), FAT)
    _ellipse(canvas, place, (radius * 0.8, radius * 0.8), MUSCLE)
    _ellipse(canvas, place, (radius * 0.3, radius * 0.3), BONE)


def _draw_table(canvas: np.ndarray, y: float, x: float, half_width: float, rng: np.random.Generator) -> None:
    """A curved shell with foam in it, as grey as lung."""
    radius = half_width * rng.uniform(1.2, 3)
    thick = max(1, round(len(canvas) * rng.uniform(0.004, 0.012)))
    depth = half_width * rng.uniform(0.08, 0.25)
    shape = np.array([radius, radius * rng.uniform(0.1, 0.4)])
    centre = np.array([x, y - shape[1]])
    for offset, value in ((depth, rng.uniform(60, 200)), (depth - thick, rng.uniform(AIR, 90)), (thick, 150), (0, AIR)):
        lower = np.zeros_like(canvas, np.uint8)
        _ellipse(lower, centre, shape + offset, 1)
        lower[: max(0, round(centre[1]))] = 0
        canvas[lower > 0] = value


def _cut_circle(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Outside the circle that the scanner reconstructs there is only padding."""
    side = len(canvas)
    inside = np.zeros_like(canvas, np.uint8)
    _ellipse(inside, np.full(2, (side - 1) / 2), np.full(2, side * rng.uniform(0.44, 0.5)), 1)
    canvas[inside == 0] = 0


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(S, S) float32 of unit deviation: noise as a scanner's kernel leaves it."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), rng.uniform(0.4, 1.5))
    return noise / max(float(noise.std()), 1e-6)


def _ellipse(canvas: np.ndarray, centre, half, value: float, angle: float = 0.0) -> None:
    """Fill an ellipse; centre and half axes are (x, y) [pixels], to a sixteenth."""
    to_fixed = 16
    place = tuple(round(each * to_fixed) for each in centre)
    axes = tuple(max(1, round(each * to_fixed)) for each in half)
    cv2.ellipse(canvas, place, axes, float(angle), 0, 360, float(value), cv2.FILLED, cv2.LINE_8, 4)
