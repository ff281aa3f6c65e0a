"""What a reader of the pictures loses if these fail: the lesion's grey level, its place, its shape, or whose mistake it
is. Fast code is held against loops over single pixels."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

from covseg_core import rendering
from covseg_core.data.slices.intensity import to_uint8

MEANINGS = {
    (True, True): rendering.TRUE_POSITIVE,
    (False, True): rendering.FALSE_NEGATIVE,
    (True, False): rendering.FALSE_POSITIVE,
}
"""(predicted, true) -> colour."""
OKABE_ITO = {(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
             (204, 121, 167)}  # fmt: skip
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip


def masks(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two blobs with ragged edges that overlap, and touch the border."""
    random = np.random.default_rng(seed)
    fields = (cv2.GaussianBlur(random.random(shape), (0, 0), 3) for _ in range(2))
    first, second = (field > np.median(field) for field in fields)
    assert {(bool(p), bool(t)) for p, t in zip(first.flat, second.flat, strict=True)} == {*MEANINGS, (False, False)}
    return first, second


def decoded(image: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


# --- grey levels


@pytest.mark.parametrize(("window", "centre", "width"), [("lung", -600, 1500), ("mediastinum", 40, 400)])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_a_window_shows_the_hu_it_names(window: rendering.Window, centre: int, width: int, dtype: type) -> None:
    plane = np.random.default_rng(0).integers(-3024, 3000, (40, 30)).astype(dtype)
    plane[0, :4] = centre - width / 2, centre + width / 2, centre, centre - width / 2 - 1
    shown = rendering.grey(plane, "HU", window)
    for value, grey in zip(plane.flat, shown.flat, strict=True):
        exact = 255 * (float(value) - (centre - width / 2)) / width
        assert abs(grey - min(255.0, max(0.0, exact))) <= 0.5
    assert list(shown[0, [0, 1, 3]]) == [0, 255, 0]


def test_full_is_what_the_model_sees() -> None:
    plane = np.random.default_rng(0).integers(-2000, 1000, (20, 20)).astype(np.int16)
    assert np.array_equal(rendering.grey(plane, "HU", "full"), to_uint8(plane[None], "HU")[0])
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(rendering.grey(stored, "0-255", "full"), stored)


@pytest.mark.parametrize("window", ["lung", "full"])
def test_a_windowed_scan_looks_like_the_same_scan_in_hu(window: rendering.Window) -> None:
    """Otherwise the two halves of the public data set would look as if they were of different patients' tissue."""
    hu = np.arange(-1250, 250, dtype=np.int16).reshape(30, 50)
    stored = to_uint8(hu[None], "HU")[0]
    difference = rendering.grey(stored, "0-255", window).astype(int) - rendering.grey(hu, "HU", window)
    assert np.abs(difference).max() <= 1


def test_the_mediastinal_window_of_a_windowed_scan_is_as_wide_as_its_values_reach() -> None:
    """-160 HU was stored as 185.3 and 240 HU as 253.3: the window must lie there, not at 0 to 255."""
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shown = rendering.grey(stored, "0-255", "mediastinum").ravel()
    assert shown[185] == 0 < shown[186]
    assert shown[253] < 255 == shown[254]


def test_a_plane_that_is_a_flipped_view_is_shown_as_it_is() -> None:
    """The viewer hands over views, not copies."""
    plane = np.arange(-1000, 200, dtype=np.int16).reshape(30, 40)
    assert np.array_equal(
        rendering.grey(plane[::-1, ::-1], "HU", "lung"), rendering.grey(plane, "HU", "lung")[::-1, ::-1]
    )


# --- masks


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
def test_fill_mixes_each_pixel_with_its_own_colour(opacity: float) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (50, 60), np.uint8)
    predicted, truth = masks(grey.shape, 1)
    picture = rendering.overlay(grey, predicted, truth, "fill", opacity)
    for y, x in itertools.product(*map(range, grey.shape)):
        colour = MEANINGS.get((bool(predicted[y, x]), bool(truth[y, x])))
        share = opacity if colour else 0
        expected = [grey[y, x] * (1 - share) + part * share for part in colour or (0, 0, 0)]
        assert np.abs(picture[y, x] - expected).max() <= 0.501, (y, x)


@pytest.mark.parametrize("shape", [(50, 60), (40, 400)])
def test_a_contour_is_the_rim_of_each_area_and_nothing_else(shape: tuple[int, int]) -> None:
    """At 400 pixels two wide: a pixel of the rim has one of another kind within that many steps, no other has."""
    grey = np.full(shape, 77, np.uint8)
    predicted, truth = masks(shape, 2)
    kinds = predicted + 2 * truth.astype(int)
    width = max(1, round(max(shape) / rendering.CONTOUR))
    picture = rendering.overlay(grey, predicted, truth, "contour", 1.0)
    for y, x in itertools.product(*map(range, shape)):
        near = (
            kinds[y + dy, x + dx]
            for dy in range(-width, width + 1)
            for dx in range(-width, width + 1)
            if abs(dy) + abs(dx) <= width and 0 <= y + dy < shape[0] and 0 <= x + dx < shape[1]
        )
        rim = kinds[y, x] > 0 and any(kind != kinds[y, x] for kind in near)
        expected = MEANINGS[bool(predicted[y, x]), bool(truth[y, x])] if rim else (77, 77, 77)
        assert tuple(picture[y, x]) == expected, (y, x)


def test_one_mask_alone_has_a_colour_that_means_neither_right_nor_wrong() -> None:
    grey, mask = np.zeros((20, 20), np.uint8), np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    for predicted, truth, colour in ((mask, None, rendering.PREDICTED), (None, mask, rendering.TRUTH)):
        picture = rendering.overlay(grey, predicted, truth, "fill", 1.0)
        assert (picture[mask] == colour).all()
        assert not picture[~mask].any()
        assert colour not in MEANINGS.values()


def test_without_a_mask_the_picture_stays_grey() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for style in ("fill", "contour"):
        assert np.array_equal(rendering.overlay(grey, None, None, style, 1.0), np.dstack([grey] * 3))


def test_the_callers_arrays_are_left_alone() -> None:
    """They are shared by all sessions."""
    grey = np.full((50, 60), 9, np.uint8)
    predicted, truth = masks(grey.shape, 3)
    arrays = [grey, predicted, truth]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    rendering.overlay(grey, predicted, truth, "contour", 0.5)
    rendering.heat(grey, predicted, 0.5)
    assert all(np.array_equal(*pair) for pair in zip(arrays, before, strict=True))


# --- colours


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colour_blind_people_tell_right_from_wrong(blindness: str) -> None:
    """A difference of 2.3 is just noticeable side by side; small areas over grey need many times that."""
    seen = [lab(colour, BLINDNESS[blindness]) for colour in MEANINGS.values()]
    assert min(math.dist(*pair) for pair in itertools.combinations(seen, 2)) > 30


def test_colours_differ_on_a_black_and_white_printer() -> None:
    lightness = sorted(lab(colour, np.eye(3))[0] for colour in MEANINGS.values())
    assert min(np.diff(lightness)) > 15
    assert lightness[0] > 50, "too dark over a lung"
    assert set(MEANINGS.values()) <= OKABE_ITO


def lab(colour: rendering.Colour, blindness: np.ndarray) -> np.ndarray:
    """CIELAB of an sRGB colour as somebody sees it."""
    encoded = np.array(colour) / 255
    linear = np.clip(
        blindness @ np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4), 0, 1
    )
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ linear / [0.9505, 1.0, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_heat_hides_nothing_where_there_is_nothing() -> None:
    grey = np.random.default_rng(4).integers(0, 256, (20, 20), np.uint8)
    values = np.zeros(grey.shape, np.float32)
    values[3, 3], values[4, 4] = 1.0, 7.0
    picture = rendering.heat(grey, values, 1.0)
    assert np.array_equal(picture[values == 0], np.repeat(grey[values == 0], 3).reshape(-1, 3))
    assert np.array_equal(picture[3, 3], picture[4, 4]), "above 1 is shown as 1"
    r, g, b = map(int, picture[3, 3])
    assert min(r, g) > b > 100, "light yellow"


def test_more_heat_is_lighter() -> None:
    ramp = np.tile(np.linspace(0.3, 1, 71, dtype=np.float32), (8, 1))
    picture = rendering.heat(np.zeros(ramp.shape, np.uint8), ramp, 1.0)
    lightness = [lab(tuple(int(part) for part in pixel), np.eye(3))[0] for pixel in picture[0, ::10]]
    assert (np.diff(lightness) > 0).all()


# --- shape


@pytest.mark.parametrize(
    ("shape", "spacing"), [((512, 512), (0.7, 0.7)), ((401, 630), (1.0, 1.0)), ((100, 400), (2.0, 0.5)),
                           ((3000, 2000), (0.2, 0.3)), ((20, 30), (5.0, 5.0)), ((8, 600), (1.0, 1.0))]
)  # fmt: skip
def test_a_millimetre_is_as_long_in_both_directions(shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    height, width = rendering.fit(np.zeros(shape, np.uint8), spacing).shape
    per_mm = height / (shape[0] * spacing[0]), width / (shape[1] * spacing[1])
    assert per_mm[0] == pytest.approx(per_mm[1], rel=1 / min(height, width))
    assert rendering.LEAST <= max(height, width) <= rendering.MOST


def test_a_round_nodule_is_round_on_pixels_that_are_not_square() -> None:
    y, x = np.mgrid[:200, :500]
    nodule = (y * 2.5 - 250) ** 2 + (x - 250) ** 2 < 100**2
    shown = rendering.fit_mask(nodule, (2.5, 1.0))
    rows, columns = (np.ptp(np.flatnonzero(shown.any(axis=axis))) for axis in (1, 0))
    assert abs(rows - columns) <= 3
    assert shown.sum() / shown.size == pytest.approx(nodule.sum() / nodule.size, rel=0.02)


def test_what_already_fits_is_not_touched() -> None:
    plane = np.random.default_rng(5).integers(0, 256, (512, 400), np.uint8)
    assert rendering.fit(plane, (0.7, 0.7)) is plane
    assert rendering.fit_mask(plane > 9, (0.7, 0.7)).sum() == (plane > 9).sum()


@pytest.mark.parametrize("shape", [(96, 96), (1536, 1536)])
def test_fitting_moves_nothing(shape: tuple[int, int]) -> None:
    """Half a pixel of shift between scan and mask would show as an error of the model."""
    plane = np.zeros(shape, np.float32)
    top, left = shape[0] // 8, shape[1] // 4
    plane[top : top * 3, left : left * 2] = 1
    shown = rendering.fit(plane, (1.0, 1.0))
    weights = shown / shown.sum()
    centre = [(np.arange(shown.shape[axis]) + 0.5) @ weights.sum(axis=1 - axis) / shown.shape[axis] for axis in (0, 1)]
    assert centre == pytest.approx([top * 2 / shape[0], left * 1.5 / shape[1]], abs=1e-3)


# --- files


def test_a_contour_keeps_its_colour_through_compression() -> None:
    """Half-resolution colour, as JPEG and WebP have by default, turns thin yellow and blue lines into the same grey."""
    random = np.random.default_rng(6)
    grey = np.clip(cv2.GaussianBlur(random.normal(120, 200, (300, 400)), (0, 0), 2), 0, 255).astype(np.uint8)
    predicted, truth = masks(grey.shape, 6)
    picture = rendering.overlay(grey, predicted, truth, "contour", 1.0)
    coloured = (picture != picture[..., :1]).any(axis=2)
    colours = np.array(list(MEANINGS.values()))
    shown = decoded(rendering.encode(picture))[coloured].astype(int)
    nearest = np.linalg.norm(shown[:, None] - colours, axis=2).argmin(axis=1)
    assert (colours[nearest] == picture[coloured]).all(axis=1).mean() > 0.999


def test_an_encoded_picture_is_what_was_drawn() -> None:
    plane = cv2.GaussianBlur(np.random.default_rng(7).integers(0, 256, (400, 500), np.uint8), (0, 0), 2)
    difference = decoded(rendering.encode(plane)).astype(int) - plane[..., None]
    assert np.abs(difference).max() <= 6
    red = np.full((400, 500, 3), (200, 30, 30), np.uint8)
    assert np.abs(decoded(rendering.encode(red)).astype(int) - red).max() <= 4, "red and blue are not exchanged"


def test_an_encoded_plane_has_square_pixels() -> None:
    assert decoded(rendering.encode(np.zeros((100, 400), np.uint8), (2.0, 0.5))).shape == (400, 400, 3)


def test_a_swatch_has_the_colour_it_explains() -> None:
    for colour in MEANINGS.values():
        assert (decoded(rendering.swatch(colour)) == colour).all()
