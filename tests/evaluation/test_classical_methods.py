"""Classical methods. What a user loses otherwise: how much of a score networks have earned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fakeruns import fake_run

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.phantom.phantom import make_phantom
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.errors import DatasetError, RunError
from covseg_core.evaluation.classical_methods import METHODS, masks, with_methods
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.measures import count, overlap
from covseg_core.files import write_json

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def square() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (1, Y, X) int16 [HU], lung, and the lesion in it: a square of -300 HU in lung of -850 HU, with noise."""
    voxels = np.full((1, 48, 48), 40, np.int16)
    lung = np.zeros((1, 48, 48), np.uint8)
    lung[:, 8:40, 8:40] = 1
    voxels[lung > 0] = np.random.default_rng(0).normal(-850, 20, (lung > 0).sum())
    lesion = np.zeros(voxels.shape, bool)
    lesion[:, 16:28, 16:28] = True
    voxels[lesion] = np.random.default_rng(1).normal(-300, 20, lesion.sum())
    return voxels, lung, lesion


@pytest.mark.parametrize("scale", ["HU", "0-255"])
@pytest.mark.parametrize("name", METHODS)
def test_a_plain_lesion_is_found_and_nothing_outside_of_the_lung(name: str, scale: str) -> None:
    voxels, lung, lesion = square()
    found = masks(voxels if scale == "HU" else to_uint8(voxels, "HU"), scale, lung)[name]
    assert found.dtype == np.uint8
    assert overlap(count(lesion, found))["dice"] > 0.9
    assert not found[lung == 0].any()


@pytest.mark.parametrize("name", ["region growing", "watershed"])
def test_a_healthy_lung_stays_empty_where_limits_are_fixed(name: str) -> None:
    voxels, lung, lesion = square()
    voxels[lesion] = -850
    assert not masks(voxels, "HU", lung)[name].any()


@pytest.mark.parametrize("lung", [np.zeros((2, 16, 16), np.uint8), np.ones((2, 16, 16), np.uint8)])
def test_no_lung_or_one_of_a_single_value_is_no_error(lung: np.ndarray) -> None:
    for mask in masks(np.full((2, 16, 16), -850, np.int16), "HU", lung).values():
        assert not mask.any()


def test_each_slice_is_segmented_by_itself() -> None:
    phantom = make_phantom(seed=2, size=96, slices=8)
    whole, alone = masks(phantom.ct, "HU", phantom.lung), masks(phantom.ct[3:4], "HU", phantom.lung[3:4])
    for name in METHODS:
        np.testing.assert_array_equal(whole[name][3:4], alone[name])


def test_they_are_scored_on_the_slices_of_the_models(phantoms: str) -> None:
    dataset = load_dataset(phantoms)
    run = fake_run(dataset, "one", "dice", SplitConfig(fractions=(0.4, 0.2, 0.4)), 100)
    comparison = evaluate_runs([run])
    told: list[tuple[int, int]] = []
    joined = with_methods(comparison, lambda done, total: told.append((done, total)))
    assert [scores.name for scores in joined.baselines] == ["background", "lung", "threshold", *METHODS]
    first = comparison.evaluations[0]
    assert told[-1] == (len(first.model.slices), len(first.model.slices))
    for scores in joined.baselines:
        assert [(one.case, one.z) for one in scores.slices] == [(one.case, one.z) for one in first.model.slices]
        assert [one.counts.truth for one in scores.slices] == [one.counts.truth for one in first.model.slices]
    assert joined.evaluations[0].model is first.model
    assert evaluate_runs([run]).baselines == comparison.baselines, "nothing of it is stored"


def test_other_data_or_lungs_are_refused(phantoms: str) -> None:
    dataset = load_dataset(phantoms)
    comparison = evaluate_runs([fake_run(dataset, "one", "dice", SplitConfig(fractions=(0.4, 0.2, 0.4)), 100)])
    lungs = dataclasses.replace(comparison.evaluations[0], target="lung")
    with pytest.raises(RunError, match="outlines lungs"):
        with_methods(dataclasses.replace(comparison, evaluations=(lungs,)))
    write_json(dataset.folder / "dataset.json", dataclasses.replace(dataset, cases=dataset.cases[:-1]))
    with pytest.raises(DatasetError, match="has changed"):
        with_methods(comparison)


def test_every_method_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in METHODS)
