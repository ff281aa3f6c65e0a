"""Baselines. What a user loses otherwise: the number that shows that a model has learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covseg_core.data.classical_lungs import lung_mask
from covseg_core.data.phantom.phantom import make_phantom
from covseg_core.data.slices.intensity import Scale, to_uint8
from covseg_core.evaluation.baselines import DESCRIPTIONS, OPACITY, baselines
from covseg_core.evaluation.measures import count, overlap

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


@pytest.mark.parametrize("scale", ["HU", "0-255"])
def test_threshold_takes_what_is_denser_than_lung_and_only_in_the_lung(scale: Scale) -> None:
    hu = np.array([[[-1000, -850, -710, -690], [-300, 0, 40, 60]]], np.int16)
    volume = hu if scale == "HU" else to_uint8(hu, "HU")
    lung = np.array([[[1, 1, 1, 1], [1, 1, 0, 1]]], np.uint8)
    found = baselines(volume, scale, lung, "infection")
    assert found["threshold"].tolist() == [[[0, 0, 0, 1], [1, 1, 0, 0]]]
    assert found["lung"].tolist() == lung.tolist()
    assert not found["background"].any()
    assert all(mask.dtype == np.uint8 for mask in found.values())


def test_both_scales_have_the_same_limits() -> None:
    edges = np.array([[OPACITY["HU"]]])
    np.testing.assert_allclose((edges + 1250) * 255 / 1500, [[OPACITY["0-255"]]])


def test_lungs_are_found_where_nobody_drew_them() -> None:
    phantom = make_phantom(seed=2, size=96, slices=8)
    found = baselines(phantom.ct, "HU", None, "infection")
    np.testing.assert_array_equal(found["lung"], lung_mask(phantom.ct, "HU"))
    assert overlap(count(phantom.lung, found["lung"]))["dice"] > 0.7


def test_a_lung_mask_is_no_baseline_for_finding_lungs() -> None:
    phantom = make_phantom(seed=2, size=96, slices=8)
    found = baselines(phantom.ct, "HU", phantom.lung, "lung")
    assert set(found) == {"background", "classical"}
    np.testing.assert_array_equal(found["classical"], lung_mask(phantom.ct, "HU"))


def test_every_baseline_is_described_and_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    volume = make_phantom(seed=2, size=64, slices=4).ct
    names = {*baselines(volume, "HU", None, "infection"), *baselines(volume, "HU", None, "lung")}
    assert names == set(DESCRIPTIONS)
    assert all(f"| `{name}` |" in text for name in names)
