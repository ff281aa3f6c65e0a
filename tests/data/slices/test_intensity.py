"""Intensity scales. If this fails, the network sees grey levels that mean something else than in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covseg_core.data.reading.volumes import load_scan
from covseg_core.data.slices.intensity import Scale, _sample, detect_scale, to_uint8
from covseg_core.errors import ScanError, UnknownScale


def chest(kind: type = np.int16, padding: int | None = None) -> np.ndarray:
    """A noisy cylinder of soft tissue with two lungs in air, in HU; outside the field of view a constant."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    plane = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
    plane[(np.abs(x) - 0.4) ** 2 + y**2 < 0.08] = -800
    volume = plane + np.random.default_rng(0).normal(0, 20, (12, 64, 64))
    if padding is not None:
        volume[:, x**2 + y**2 > 0.95] = padding
    return np.rint(volume).astype(kind)


def by_definition(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Voxel by voxel in float64, whole volume at once."""
    return np.clip(np.rint((values.astype(np.float64) - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024])
def test_hounsfield_units_are_known_whatever_the_padding(kind: type, padding: int | None) -> None:
    assert detect_scale(chest(kind, padding)) == "HU"


def test_lungs_cut_out_and_padded_are_in_hounsfield_units() -> None:
    volume = np.full((10, 64, 64), -1024, np.int16)
    volume[:, 20:40, 20:40] = np.random.default_rng(0).integers(-950, 200, (10, 20, 20))
    assert detect_scale(volume) == "HU"


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_windowed_scans_are_known(kind: type) -> None:
    windowed = by_definition(chest(), -1250, 250).astype(kind)
    assert detect_scale(windowed) == "0-255"
    if kind is np.float32:
        assert detect_scale(windowed + np.float32(0.3)) == "0-255"  # interpolated a little beyond


def test_air_of_one_value_does_not_hide_hounsfield_units() -> None:
    assert detect_scale(np.where(chest() < -900, -1000, 40).astype(np.int16)) == "HU"


@pytest.mark.parametrize(
    ("volume", "found"),
    [
        (np.maximum(chest() + 1024, 0), ".*perhaps HU \\+ 1024"),
        (by_definition(chest(), -1250, 250) / np.float32(255), "values from .* to"),
        ((chest() > 0).astype(np.uint8), "values from 0 to 1"),
        (np.clip(chest(), -160, 240), "values from -160 to"),
        (np.where(chest() < -900, -1024, by_definition(chest(), -1250, 250).astype(np.int16)), "values from -1024 to"),
    ],
    ids=["unsigned", "0 to 1", "mask", "soft-tissue window", "windowed with padding"],
)
def test_other_scales_are_refused_with_the_way_out(volume: np.ndarray, found: str) -> None:
    with pytest.raises(ScanError, match=rf"^ct\.nii: {found}.*; expected HU .* or 0 to 255.*scale HU or 0-255$"):
        detect_scale(volume, "ct.nii")


def between(low: float, high: float, padding: float | None = None) -> np.ndarray:
    """A volume with values evenly from low to high, a tenth of it padding."""
    volume = np.linspace(low, high, 8 * 10 * 10, dtype=np.float32).reshape(8, 10, 10)
    if padding is not None:
        volume[:, 0] = padding
        volume[0, 1, 0] = low
    return volume


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [
        (-0.5, 255.5, "0-255"),  # interpolation between stored values goes half a grey level beyond
        (-0.6, 255.0, None),
        (0.0, 255.75, None),
        (0.0, 100.5, "0-255"),  # dark, but brighter than any mask
        (0.0, 100.0, None),
        (0.0, 2.0, None),  # a mask of two lungs
        (-201.0, 240.0, "HU"),
        (-200.0, 240.0, None),  # a window of soft tissue shows no lung
        (100.0, 600.0, None),
    ],
)
def test_the_bounds_of_both_scales(low: float, high: float, scale: Scale | None) -> None:
    """One grey level further, and a scan that is neither would go to the network as if it were."""
    volume = between(low, high)
    if scale:
        assert detect_scale(volume) == scale
    else:
        with pytest.raises(UnknownScale):
            detect_scale(volume)


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [
        (0.0, 255.0, None),  # windowed, and then padded by somebody: windowing it again would make it all alike
        (0.0, 200.0, None),
        (0.0, 199.0, "HU"),
        (0.0, 256.0, "HU"),
        (-1.0, 255.0, "HU"),
        (-150.0, 250.0, "HU"),  # a body without lungs, cut out
    ],
)
def test_what_is_padded_is_told_by_the_rest(low: float, high: float, scale: Scale | None) -> None:
    volume = between(low, high, padding=-1024)
    if scale:
        assert detect_scale(volume) == scale
    else:
        with pytest.raises(UnknownScale):
            detect_scale(volume)


@pytest.mark.parametrize("value", [-1000, 0, 40])
def test_a_volume_of_one_value_has_no_scale(value: int) -> None:
    with pytest.raises(UnknownScale, match=f"^scan: values from {value} to {value};"):
        detect_scale(np.full((4, 5, 6), value, np.int16))


@pytest.mark.parametrize(
    ("low", "high", "hinted"),
    [(0, 1001, True), (0, 5120, True), (0, 1000, False), (0, 5121, False), (-1, 2000, False), (1, 2000, True)],
)
def test_unsigned_hounsfield_units_are_guessed_at(low: float, high: float, hinted: bool) -> None:
    """Air 0 and bone up to 4096 + 1024: the user learns what to subtract, and is not misled where it is not that."""
    with pytest.raises(UnknownScale) as caught:
        detect_scale(between(low, high))
    hint = ", perhaps HU + 1024" if hinted else ""
    assert str(caught.value).startswith(f"scan: values from {low} to {high}{hint}; expected HU")


@pytest.mark.parametrize(
    ("shape", "slices", "step"),
    [
        ((600, 512, 512), 7, 7),  # 157 million voxels are 315 times as many as are looked at: the cube of 6.8
        ((40, 512, 512), 3, 3),
        ((17, 512, 512), 2, 2),
        ((15, 512, 512), 1, 2),  # of few slices all: the lungs may be in one of them
        ((1, 2048, 2048), 1, 2),
        ((8, 64, 64), 1, 1),
    ],
)
def test_a_sample_is_taken_evenly_from_the_whole_scan(shape: tuple[int, ...], slices: int, step: int) -> None:
    """A sample of the first slices alone would show shoulders and no lung; all voxels would take seconds."""
    for axis, every in enumerate((slices, step, step)):
        places = np.arange(shape[axis]).reshape([-1 if other == axis else 1 for other in range(3)])
        sample = _sample(np.broadcast_to(places, shape))
        assert np.unique(sample).tolist() == list(range(0, shape[axis], every))
    assert sample.shape == (len(range(0, shape[0], slices)) * len(range(0, shape[1], step)) ** 2,)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize("window", [(-1250.0, 250.0), (-1000.0, 400.5)])
def test_windowing_equals_its_definition(kind: type, window: tuple[float, float]) -> None:
    values = np.random.default_rng(1).integers(-32768, 32767, (3, 40, 40)).astype(kind)
    values[1] = np.random.default_rng(2).integers(-1300, 500, (40, 40))
    assert np.array_equal(to_uint8(values, "HU", window), by_definition(values, *window))


def test_window_ends_padding_and_bone() -> None:
    values = np.array([-32768, -3024, -2000, -1250, -1024, -500, 0, 250, 3000, 32767], np.int16).reshape(1, 2, 5)
    expected = [0, 0, 0, 0, 38, 128, 212, 255, 255, 255]
    for kind in (np.int16, np.int32, np.float32):
        assert to_uint8(values.astype(kind), "HU").ravel().tolist() == expected


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_windowed_scans_keep_their_grey_levels(kind: type) -> None:
    grey = np.arange(256).reshape(1, 16, 16)
    assert np.array_equal(to_uint8(grey.astype(kind), "0-255"), grey)


def test_grey_levels_that_are_right_already_are_not_copied() -> None:
    """A stack of 0 to 255 is hundreds of MB, twice of which a small machine does not have."""
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert to_uint8(grey, "0-255") is grey
    # somebody says that it is HU: then 0 HU is 1250 of the 1500 of the window
    assert to_uint8(grey, "HU")[0, 0, 0] == round(255 * 1250 / 1500)


def test_windowed_scans_clip_what_lies_outside() -> None:
    assert to_uint8(np.array([[[-1024, -0.4, 254.6, 255.4, 300]]], np.float32), "0-255").tolist() == [
        [[0, 0, 255, 255, 255]]
    ]


def test_views_that_are_not_contiguous_are_windowed_right() -> None:
    volume = chest()
    assert np.array_equal(to_uint8(volume[::2, ::-1, ::-2], "HU"), to_uint8(volume, "HU")[::2, ::-1, ::-2])


def test_real_scans(real_data: Path) -> None:
    scales: dict[str, Scale] = {
        "ct20/coronacases_001/ct.nii.gz": "HU",
        "ct20/coronacases_006/ct.nii.gz": "HU",
        "ct20/radiopaedia_7_85703_0/ct.nii.gz": "0-255",
        "ct20/radiopaedia_29_86490_1/ct.nii.gz": "0-255",
        "medseg/tr_im.nii.gz": "0-255",
        "totalseg_torso_3mm.nii.gz": "HU",
    }
    for name, scale in scales.items():
        assert detect_scale(load_scan(real_data / name).voxels) == scale, name
