"""Intensity scales. If this fails, the network sees grey levels that mean something else than in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covseg_core.data.reading.volumes import load_scan
from covseg_core.data.slices.intensity import Scale, detect_scale, to_uint8
from covseg_core.errors import ScanError


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
