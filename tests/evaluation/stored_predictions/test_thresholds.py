"""What if another threshold. What a user loses otherwise: a slider whose numbers are those of no mask."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from fakeruns import fake_run
from known import save_line
from scipy import ndimage

from covseg_core.config import PrepareConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.errors import CovsegError, RunError, SettingError
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.evaluation.measures import Counts, count, overlap
from covseg_core.evaluation.stored_predictions.scans import StoredScan, joined_scans, scans_of_test, stored_scans
from covseg_core.evaluation.stored_predictions.thresholds import STEPS, WhatIf, at
from covseg_core.runs import Run

SIDE = 48
"""Of the scans; the network's grid is as fine, or coarser."""


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(5, SIDE)


@pytest.fixture
def make_run(dataset: Dataset) -> Callable[..., Run]:
    def make(size: int = SIDE) -> Run:
        split = SplitConfig(fractions=(0.4, 0.2, 0.4))
        run = fake_run(dataset, f"run-{size}", "dice", split, 0, prepare=PrepareConfig(size=size))
        save_line(run.onnx, size, 0, 1 / 255)  # many answers: probability is the grey value over 255
        return run

    return make


def speckled(scans: int, slices: int, seed: int = 0) -> np.ndarray:
    """Probabilities with parts of all sizes, some of which touch at corners only, (scans * slices, 32, 32) float16."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(scans * slices, 32, 32))
    values = ndimage.gaussian_filter(noise, (0.4, 0.7, 0.7)) * 9 + 0.5 * noise - 6
    probabilities = (1 / (1 + np.exp(-values))).astype(np.float16)
    probabilities[:, 3::9, ::11] = 0.5  # a tie with the threshold belongs to the mask
    return probabilities


def stored(dataset: Dataset, zs: tuple[int, ...], **changes: object) -> list[StoredScan]:
    """Two scans of 8 slices, of which these are predicted, in the order of an evaluation."""
    cases = [dataclasses.replace(case, **changes) for case in dataset.cases[:2]]  # type: ignore[arg-type]
    altered = dataclasses.replace(dataset, cases=tuple(cases))
    slices = [(case.id, z) for case in cases for z in zs]
    return stored_scans(altered, slices, speckled(2, len(zs)), PrepareConfig(size=32), "infection")


def slowly(scan: StoredScan, threshold: float, least: float, peak: float = 0.0) -> list[Counts]:
    """Counts of each slice: label the whole scan, drop what is too small or faint, compare pixel by pixel."""
    values = np.zeros((scan.case.shape[0], *scan.truth.shape[1:]), np.float32)
    values[list(scan.zs)] = scan.probabilities
    whole = np.zeros((scan.case.shape[0], *scan.truth.shape[1:]), bool)
    whole[list(scan.zs)] = scan.probabilities.astype(np.float32) >= np.float32(threshold)
    structure = np.ones((3, 3, 3), bool)
    if scan.case.stacked:
        structure[[0, 2]] = False
    labels, number = ndimage.label(whole, structure)
    for part in range(1, number + 1):
        here = labels == part
        if np.count_nonzero(here) * scan.mm3 < least or values[here].max() < np.float32(peak):
            whole[labels == part] = False
    return [count(true, whole[z]) for z, true in zip(scan.zs, scan.truth, strict=True)]


PLACES = {"whole scans": (tuple(range(8)), False), "scattered slices": ((0, 1, 3, 4, 7), False)}
PLACES["stacked slices"] = (tuple(range(8)), True)


@pytest.mark.parametrize("which", PLACES)
@pytest.mark.parametrize("threshold", [0.05, 0.35, 0.5, 0.65, 0.95])
def test_it_says_what_a_slow_obvious_computation_says(dataset: Dataset, which: str, threshold: float) -> None:
    zs, stacked = PLACES[which]
    scans = stored(dataset, zs, stacked=stacked)
    model = WhatIf(scans)
    dropped = set()
    for voxels in (0, 2, 5, 30):
        least = voxels * scans[0].mm3
        scores = model.at(threshold, least)
        expected = [slowly(scan, threshold, least) for scan in scans]
        assert [score.counts for score in scores.slices] == [counts for scan in expected for counts in scan]
        for scan, counts, dice in zip(scores.scans, expected, model.scan_dice(threshold, least), strict=True):
            assert dice == pytest.approx(overlap(sum(counts, Counts()))["dice"], nan_ok=True)
            assert scan.values["dice"] == (None if math.isnan(dice) else dice)
        dropped.add(sum(score.counts.predicted for score in scores.slices))
    assert len(dropped) > 2, "no part was small enough to be dropped: a test of nothing"


@pytest.mark.parametrize("which", PLACES)
@pytest.mark.parametrize(("threshold", "peak"), [(0.05, 0.7), (0.35, 0.7), (0.5, 0.97), (0.95, 0.99), (0.9, 0.8)])
def test_faint_parts_are_left_out_as_by_the_slow_computation(
    dataset: Dataset, which: str, threshold: float, peak: float
) -> None:
    zs, stacked = PLACES[which]
    scans = stored(dataset, zs, stacked=stacked)
    model = WhatIf(scans)
    for voxels in (0, 5):
        least = voxels * scans[0].mm3
        expected = [counts for scan in scans for counts in slowly(scan, threshold, least, peak)]
        assert [score.counts for score in model.at(threshold, least, peak).slices] == expected
    marked = [sum(score.counts.predicted for score in model.at(threshold, 0, each).slices) for each in (0, peak)]
    assert (marked[0] > marked[1]) == (peak > threshold)


def test_padding_is_no_part_of_a_scan(dataset: Dataset) -> None:
    """On a scan that is not square: what a model says beside it never reaches a mask, so it must not be counted."""
    case = dataset.cases[0]
    narrow = dataclasses.replace(case, spacing=(case.spacing[0], case.spacing[1], 2 * case.spacing[2]))
    values = np.ones((8, 32, 32), np.float16)
    altered = dataclasses.replace(dataset, cases=(narrow,))
    [scan] = stored_scans(altered, [(case.id, z) for z in range(8)], values, PrepareConfig(size=32), "infection")
    assert scan.truth.shape[1] < scan.truth.shape[2] == 32
    sources = case_grid(dataset, narrow, PrepareConfig(size=32)).axes[0].sources()
    assert scan.truth.shape[1] == np.count_nonzero(sources >= 0)
    counts = [score.counts for score in WhatIf([scan]).at(0.5).slices]
    assert all(each.predicted == scan.truth[0].size and each.tn == 0 for each in counts)
    # as large as the scan itself, in whatever pixels it is counted
    assert scan.truth[0].size * scan.mm3 == pytest.approx(np.prod(case.shape[1:]) * np.prod(narrow.spacing), rel=0.05)


def test_sizes_are_in_pixels_of_the_scan_where_nobody_knows_its_spacing(dataset: Dataset) -> None:
    scans = stored(dataset, tuple(range(8)), spacing_known=False)
    model = WhatIf(scans)
    assert model.unit == "voxels"
    assert scans[0].pixels == (SIDE / 32) ** 2
    assert WhatIf(stored(dataset, tuple(range(8)))).unit == "mm3"


def test_at_a_half_it_is_the_evaluation_where_the_grids_are_the_same(make_run: Callable[..., Run]) -> None:
    """The row that is above in the table must be what the slider starts from."""
    run = make_run(SIDE)
    evaluation = evaluate_run(run)
    scores = WhatIf(scans_of_test(run, evaluation)).at(0.5)
    assert [score.counts for score in scores.slices] == [score.counts for score in evaluation.model.slices]
    for name in ("accuracy", "dice", "mean_iou", "specificity", "volume_difference", "false_positive_volume"):
        assert scores.pooled[name] == pytest.approx(evaluation.model.pooled[name]), name
        if name in evaluation.model.over_scans:
            assert scores.over_scans[name].mean == pytest.approx(evaluation.model.over_scans[name].mean)
    assert scores.pooled["hd95"] is None


def test_on_a_coarser_grid_it_is_near_the_evaluation(make_run: Callable[..., Run]) -> None:
    run = make_run(32)
    evaluation = evaluate_run(run)
    scores = WhatIf(scans_of_test(run, evaluation)).at(0.5)
    expected, found = evaluation.model.pooled["dice"], scores.pooled["dice"]
    assert expected is not None and found is not None
    assert found != expected
    assert found == pytest.approx(expected, abs=0.05)
    volume, on_the_grid = evaluation.model.pooled["volume_difference"], scores.pooled["volume_difference"]
    assert volume is not None and on_the_grid is not None
    assert on_the_grid == pytest.approx(volume, rel=0.1)


def test_several_models_are_asked_at_once(dataset: Dataset) -> None:
    models = [WhatIf(stored(dataset, tuple(range(8)))) for _ in range(3)]
    models[0].prepare()
    assert at(models, 0.4, 20.0) == [model.at(0.4, 20.0) for model in models]
    assert at([], 0.4) == []


def test_a_model_that_says_nothing_is_scored(dataset: Dataset) -> None:
    scans = [
        dataclasses.replace(scan, probabilities=np.zeros_like(scan.probabilities))
        for scan in stored(dataset, (2, 3, 4, 5))
    ]
    scores = WhatIf(scans).at(0.05)
    assert scores.pooled["dice"] == scores.pooled["sensitivity"] == 0
    assert all(score.counts.predicted == 0 for score in scores.slices)


def test_parts_of_a_scan_that_different_models_have_predicted_become_one(dataset: Dataset) -> None:
    """As in a cross-validation by slice: the lesion that lies in two folds is one lesion."""
    whole = stored(dataset, tuple(range(8)))
    parts = [
        dataclasses.replace(scan, zs=scan.zs[part], probabilities=scan.probabilities[part], truth=scan.truth[part])
        for part in (slice(1, None, 2), slice(0, None, 2))
        for scan in reversed(whole)
    ]
    assert WhatIf(joined_scans(parts)).at(0.5, 50) == WhatIf(whole).at(0.5, 50)


def test_empty_pairs_count_as_the_policy_says(dataset: Dataset) -> None:
    model = WhatIf(stored(dataset, tuple(range(8))))
    left_out, perfect = model.at(0.95, 1e6), model.at(0.95, 1e6, policy="one")
    assert left_out.over_slices["dice"].n < perfect.over_slices["dice"].n == len(perfect.slices)


def test_what_cannot_be_asked_is_said(dataset: Dataset) -> None:
    model = WhatIf(stored(dataset, (0, 1)))
    with pytest.raises(SettingError, match=r"0\.52.*0\.05, 0\.1"):
        model.at(0.52)
    with pytest.raises(SettingError, match="smallest size"):
        model.at(0.5, -1)
    with pytest.raises(SettingError, match=r"^peak: 0\.5; expected one of 0, 0\.7, \.\.\., 0\.99"):
        model.at(0.3, 0, 0.5)
    assert model.at(STEPS[5] + 1e-12) == model.at(0.3), "sliders count in binary fractions"


def test_probabilities_of_another_model_or_dataset_are_refused(make_run: Callable[..., Run], dataset: Dataset) -> None:
    run = make_run(32)
    evaluation = evaluate_run(run)
    with pytest.raises(RunError, match="earlier model"):
        scans_of_test(run, dataclasses.replace(evaluation, model_sha256="0" * 64))
    with pytest.raises(RunError, match="has changed"):
        scans_of_test(run, dataclasses.replace(evaluation, fingerprint="0" * 64))
    np.save(run.test_predictions, np.zeros((3, 32, 32), np.float16))
    with pytest.raises(RunError, match="3 slices"):
        scans_of_test(run, evaluation)
    np.save(run.test_predictions, np.zeros((evaluation.slices, 16, 16), np.float16))
    with pytest.raises(CovsegError, match=r"\(16, 16\)"):
        scans_of_test(run, evaluation)
    run.test_predictions.unlink()
    with pytest.raises(RunError, match="has no test_predictions"):
        scans_of_test(run, evaluation)


def test_the_truth_is_that_of_training(dataset: Dataset) -> None:
    scans = stored(dataset, tuple(range(8)))
    for scan in scans:
        masks = prepared(dataset, scan.case, PrepareConfig(size=32), "infection")
        assert np.count_nonzero(scan.truth) == np.count_nonzero(masks)
