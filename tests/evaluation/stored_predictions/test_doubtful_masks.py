"""Masks that models doubt. What a user loses otherwise: wrong masks stay among hundreds, and are learned from."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pages
import pytest
from click.testing import CliRunner
from fakeruns import fake_run
from scipy import ndimage

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.errors import SettingError
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.stored_predictions.doubtful_masks import (
    Doubt,
    agreement,
    doubtful_cases,
    doubtful_slices,
    recall_among,
)
from covseg_core.evaluation.stored_predictions.scans import StoredScan
from dashboard.app_pages.compare import doubtful_masks, slices

SIDE, SLICES = 96, 30


def make_scans(seed: int = 0) -> tuple[list[StoredScan], list[np.ndarray]]:
    """Three scans with lesions, as a model that is not perfect sees them, and their true masks."""
    random = np.random.default_rng(seed)
    scans, truths = [], []
    for number in range(3):
        hidden = ndimage.gaussian_filter(random.normal(size=(SLICES, SIDE, SIDE)), (1, 6, 6))
        hidden /= hidden.std()
        error = ndimage.gaussian_filter(random.normal(size=hidden.shape), (1, 3, 3))
        truth = hidden > 1.2
        logit = 8 * (hidden - 1.2) + 2 * error / error.std()
        case = Case(
            id=f"case-{number}", patient=f"p{number}", stacked=False, scan="ct.nii", infection="mask.nii", lung=None,
            labels=None, shape=hidden.shape, spacing=(5.0, 1.0, 1.0), spacing_known=True, orientation="RAS",
            scale="HU", infection_voxels=None, lung_voxels=None, sha256={},
        )  # fmt: skip
        whole = slice(0, SIDE)
        values = (1 / (1 + np.exp(-logit))).astype(np.float16)
        scans.append(StoredScan(case, tuple(range(SLICES)), values, truth.copy(), (whole, whole), (2.0, 2.0)))
        truths.append(truth)
    return scans, truths


PLANTED = {
    "shifted": lambda truth, z: np.roll(truth[z], (12, 9), (0, 1)),
    "deleted": lambda truth, z: np.zeros_like(truth[z]),
    "swapped": lambda truth, z: truth[(z + SLICES // 2) % SLICES],
    "mirrored": lambda truth, z: truth[z][:, ::-1],
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_errors_come_first(kind: str) -> None:
    scans, truths = make_scans()
    random, wrong = np.random.default_rng(1), set[tuple[str, int]]()
    for scan, truth in zip(scans, truths, strict=True):
        for z in random.choice(np.flatnonzero(truth.sum(axis=(1, 2)) > 300), 4, replace=False):
            scan.truth[z] = PLANTED[kind](truth, z)
            wrong.add((scan.case.id, int(z)))
    found = doubtful_slices(scans)
    assert len(found) == 3 * SLICES
    assert recall_among(found, wrong, 12) >= 0.9
    assert recall_among(found, wrong, 18) == 1


def test_what_lacks_and_what_is_too_much_is_told_apart() -> None:
    scans, truths = make_scans()
    z = int(truths[0].sum(axis=(1, 2)).argmax())
    scans[0].truth[z] = False
    first = doubtful_slices(scans)[0]
    assert (first.case, first.z, first.surplus) == ("case-0", z, 0)
    marked = np.count_nonzero(scans[0].probabilities[z] >= 0.8)
    assert 0.8 * 4 * marked < first.missing <= 4 * marked, "pixels of the scan, four for each of these"


def test_a_border_drawn_by_somebody_else_is_no_doubt() -> None:
    disc = np.hypot(*(np.indices((SIDE, SIDE)) - SIDE // 2)) < 20
    for other in (ndimage.binary_dilation(disc), ndimage.binary_erosion(disc), disc):
        assert agreement(disc.astype(np.float32), other) == 1
    assert agreement(disc.astype(np.float32), ndimage.binary_dilation(disc, iterations=5)) < 0.9
    assert agreement(np.full(disc.shape, 0.5, np.float32), disc) == 1, "a model that is sure of nothing doubts nothing"
    assert agreement(np.zeros(disc.shape, np.float32), np.zeros_like(disc)) == 1


def test_several_models_are_heard_alike() -> None:
    (one, *_), _ = make_scans()
    (other, *_), _ = make_scans()
    other.probabilities[:] = 0
    together = {doubt.z: doubt for doubt in doubtful_slices([one, other])}
    alone = [{doubt.z: doubt for doubt in doubtful_slices([scan])} for scan in (one, other)]
    for z, doubt in together.items():
        assert doubt.agreement == pytest.approx((alone[0][z].agreement + alone[1][z].agreement) / 2)
        assert doubt.surplus == pytest.approx((alone[0][z].surplus + alone[1][z].surplus) / 2)


def test_a_case_is_judged_by_all_its_slices() -> None:
    rows = [Doubt("a", 3, 0.1, 5, 0), Doubt("b", 1, 0.4, 2, 2), Doubt("b", 2, 0.5, 0, 4), Doubt("a", 4, 1.0, 1, 0)]
    assert doubtful_cases(rows) == [Doubt("b", 1, 0.45, 1, 3), Doubt("a", 3, 0.55, 3, 0)]


@pytest.fixture
def scored(small_phantoms: Callable[..., Dataset]) -> list[str]:
    dataset, split = small_phantoms(5), SplitConfig(fractions=(0.2, 0.4, 0.4))
    runs = [fake_run(dataset, f"e-{metric}", metric, split, level) for metric, level in (("iou", 90), ("dice", 110))]  # type: ignore[arg-type]
    evaluate_runs(runs)
    return [run.id for run in runs]


def test_the_command_lists_them(scored: list[str]) -> None:
    found = json.loads(CliRunner().invoke(cli, ["doubts", *scored, "--json", "--first", "3"]).stdout)
    assert len(found) == 3
    assert found == sorted(found, key=lambda doubt: doubt["agreement"])
    printed = CliRunner().invoke(cli, ["doubts", *scored, "--cases"], catch_exceptions=False).stdout
    assert "2 cases, by 2 models that did not learn from them" in printed
    assert found[0]["case"] in printed


def test_models_that_answer_other_questions_are_not_mixed(scored: list[str], small_phantoms: object) -> None:
    from covseg_core.data.library.datasets import load_dataset

    lung = fake_run(
        load_dataset("phantoms"), "lungs", "dice", SplitConfig(fractions=(0.2, 0.4, 0.4)), 60, target="lung"
    )
    with pytest.raises(SettingError, match="models of one target"):
        CliRunner().invoke(cli, ["doubts", scored[0], lung.id], standalone_mode=False, catch_exceptions=False)


def test_the_page_leads_to_the_slice(scored: list[str]) -> None:
    app = pages.open_page("compare", {doubtful_masks.OPEN: True}, tab="Failures")
    assert not app.error, app.error
    [table] = [frame.value for frame in app.dataframe if "Agreement" in frame.value.columns]
    found = json.loads(CliRunner().invoke(cli, ["doubts", *scored, "--json", "--first", "1"]).stdout)[0]
    assert (table["Scan"][0], table["Slice"][0]) == (found["case"], found["z"] + 1)
    assert table["Agreement"][0] == pytest.approx(found["agreement"])
    app.button_group(key=doubtful_masks.KIND).set_value("Scans").run()
    [table] = [frame.value for frame in app.dataframe if "Agreement" in frame.value.columns]
    assert len(table) == 2
    assert slices.CASE not in app.session_state or app.session_state[slices.CASE] in set(table["Scan"])
