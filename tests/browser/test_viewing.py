"""Looking at finished models. What a user loses otherwise: trust that what is shown is what was asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import expect

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.slices.intensity import to_uint8
from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open


def test_a_link_reproduces_a_view(visit: Open, models: list[Run]) -> None:
    """What a colleague is sent must show the same models on the same slice at the same threshold."""
    mine = visit("compare")
    mine.sees("Every model, every metric, the same test slices")
    mine.tab("Slices")
    mine.click(re.compile("^Remove IoU"))
    mine.click("Best slice")
    mine.sees(re.compile("Best slice, 1 of"))
    mine.press("Slice", "ArrowRight")
    mine.press("Threshold", "ArrowRight")
    expect(mine.panels).to_have_count(5)
    shown = mine.shown()
    assert len(shown) == 5, "CT, truth, two models, disagreement"
    theirs = visit(mine.page.url.split("/")[-1])
    theirs.sees_pictures_of(shown)
    expect(theirs.slider("Threshold")).to_have_value("0.55")
    expect(theirs.page).to_have_url(mine.page.url)


def test_the_slices_follow_the_arrow_keys(visit: Open, models: list[Run]) -> None:
    """All panels move to the next slice together; a panel that stays behind would show another place of the chest."""
    user = visit("compare?tab=Slices")
    expect(user.panels).to_have_count(6)
    user.settles()
    before, pictures = user.shown(), user.pictures()
    user.press("Slice", "ArrowRight")
    here = int(before[0].split()[-1])
    for panel in user.panels.all():
        expect(panel).to_have_attribute("alt", re.compile(f", slice {here + 1}$"))
    assert all(new != old for new, old in zip(user.pictures(), pictures, strict=True))
    user.press("Slice", "ArrowLeft")
    user.sees_pictures_of(before)
    assert user.pictures() == pictures
    user.choose("Window", "Mediastinum")
    user.sees_pictures_of(before)
    assert user.pictures() != pictures


def test_a_threshold_of_one_page_is_none_of_the_other(visit: Open, models: list[Run]) -> None:
    """It is set for other models, and on Compare a look at the test part would have moved it."""
    user = visit("compare?tab=Slices")
    user.press("Threshold", "End")
    expect(user.slider("Threshold")).to_have_value("0.95")
    user.go("Quick prediction")
    user.choose("Where it is", "From a dataset")
    user.click("Take this scan")
    user.click("Predict")
    user.sees("3. Mask")
    expect(user.slider("Threshold")).to_have_value("0.5")
    user.press("Threshold", "Home")
    expect(user.slider("Threshold")).to_have_value("0.05")
    user.go("Compare")
    user.tab("Slices")
    expect(user.slider("Threshold")).to_have_value("0.5")


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_the_downloaded_mask_lies_on_the_scan_as_it_was_uploaded(
    visit: Open, models: list[Run], sample: Dataset, tmp_path: Path, axes: str
) -> None:
    """However the axes of the file run, each voxel of the mask must be that of the scan under it."""
    case = sample.cases[0]
    stored = nib.load(sample.path(case, "scan"))
    turn = nib.orientations.ornt_transform(nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt(axes))
    nib.save(stored.as_reoriented(turn), tmp_path / "patient 7.nii.gz")
    scan = nib.load(tmp_path / "patient 7.nii.gz")
    user = visit("predict")
    user.send(tmp_path / "patient 7.nii.gz")
    user.sees("patient 7.nii.gz")
    user.click("Predict")
    user.sees("3. Mask")
    user.settles()
    volume = float(user.main.get_by_test_id("stMetricValue").first.inner_text().replace(",", ""))
    mask = nib.load(user.download("Download mask", tmp_path))
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    bright = to_uint8(np.asarray(scan.dataobj), "HU") > 110  # two of the three models say so
    predicted = np.asarray(mask.dataobj)
    assert set(np.unique(predicted)) == {0, 1}
    assert (predicted == bright).mean() > 0.999
    voxel = abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    assert volume == pytest.approx(predicted.sum() * voxel, rel=1e-3), "the page shows another volume than the file has"


def test_a_reload_keeps_a_prediction_for_the_browser_that_made_it(
    visit: Open, models: list[Run], tmp_path: Path
) -> None:
    """A tab that is loaded anew must not cost a minute of work, nor its link show a patient to others."""
    write_sample(tmp_path / "sample", scans=1, size=64, slices=12)
    [scan] = tmp_path.glob("sample/*/ct.nii.gz")
    user = visit("predict")
    user.send(scan)
    user.click("Predict")
    user.sees("3. Mask")
    user.settles()
    shown = user.shown()
    user.page.reload()
    user.sees("3. Mask")
    user.sees_pictures_of(shown)
    other = visit(user.page.url.split("/")[-1])
    other.sees("another browser has brought it")
    expect(other.panels).to_have_count(0)


def test_the_menu_tells_the_dataset_and_the_queue(visit: Open, sample: Dataset) -> None:
    """Whoever is on another page must not have to look for what trains."""
    user = visit()
    menu = user.page.get_by_test_id("stSidebar")
    expect(menu.get_by_text(f"Dataset: {sample.name}")).to_be_visible()
    user.type("Epochs", 300)
    user.click("Start training")
    user.sees_title("Live curves")
    expect(menu.get_by_text(re.compile("run trains|runs wait"))).to_be_visible()
    user.go("Compare")
    expect(menu.get_by_text(re.compile("run trains|runs wait"))).to_be_visible()
