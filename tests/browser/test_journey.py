"""From nothing to the mask of a new scan, by clicks only: if this fails, the dashboard does not do what it is for."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from covseg_core.data.phantom.phantom import write_sample

if TYPE_CHECKING:
    from .conftest import Open, Server, User

EPOCHS = 6
MINUTES = 60_000
POINTS = """
() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)
      .reduce((sum, trace) => sum + (trace.x?.length ?? 0), 0)
"""


@pytest.mark.training
@pytest.mark.timeout(1500)
def test_a_newcomer_trains_three_models_compares_them_and_uses_them(
    visit: Open, server: Server, untimed: None, tmp_path: Path
) -> None:
    user = visit()
    take_sample_data(user)
    train_all_three(user)
    watch_them_learn(user)
    compare(user, tmp_path)
    predict(user, tmp_path)


def take_sample_data(user: User) -> None:
    user.click("Use sample data")
    user.sees("Dataset sample is ready: 6 cases.")
    user.main.get_by_role("tab", name="Preview").click()
    expect(user.panels).to_have_count(2)


def train_all_three(user: User) -> None:
    """While the first network is being timed, another one is chosen: its estimate must come all the same."""
    user.type("Epochs", EPOCHS)
    user.open("More settings")
    user.type("Side of the slices (pixels)", 64)
    user.sees(re.compile(f"3 trainings of {EPOCHS} epochs"), timeout=2 * MINUTES)
    user.click("Start training")
    user.sees_title("Live curves")
    assert len(runs_of_link(user)) == 3


def watch_them_learn(user: User) -> None:
    """The curves must grow under the user's eyes, without a click."""
    user.page.wait_for_function(f"() => ({POINTS})() > 0", timeout=3 * MINUTES)
    before = user.page.evaluate(POINTS)
    user.page.wait_for_function(f"() => ({POINTS})() > {before}", timeout=3 * MINUTES)
    expect(user.main.get_by_text(re.compile("Finished$"))).to_have_count(3, timeout=10 * MINUTES)
    user.sees(f"Epoch {EPOCHS} of {EPOCHS}")
    expect(user.main.get_by_test_id("stImage").locator("img")).to_have_count(4)


def compare(user: User, folder: Path) -> None:
    """Every model with every metric on the same test scans, on the page and in the files; and the slices themselves."""
    user.go("Compare")
    user.sees("Every model, every metric, the same test slices")
    expect(user.panels).to_have_count(5)  # CT, truth, three models
    user.tab("Export")
    with zipfile.ZipFile(user.download("Tables (CSV)", folder)) as tables:
        scores = pd.read_csv(tables.open("scores.csv"))
    assert {"accuracy", "iou", "dice", "mean_iou"} <= set(scores["measure"])
    user.tab("Slices")
    expect(user.panels).to_have_count(6)  # and disagreement
    user.click("Worst slice")
    user.sees(re.compile("Worst slice, 1 of"))
    with zipfile.ZipFile(user.download("Masks of this scan", folder)) as masks:
        assert sum(name.startswith("mask_") for name in masks.namelist()) == 3


def predict(user: User, folder: Path) -> None:
    """At the lowest threshold even a model that has learned little marks something."""
    [case] = write_sample(folder / "new", scans=1, size=64, seed=7)
    user.go("Quick prediction")
    user.send(case / "ct.nii.gz")
    user.sees("ct.nii.gz")
    user.click("Predict")
    user.sees("3. Mask", timeout=2 * MINUTES)
    user.press("Threshold", "Home")
    mask, scan = nib.load(user.download("Download mask", folder)), nib.load(case / "ct.nii.gz")
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    values, counts = np.unique(np.asarray(mask.dataobj), return_counts=True)
    assert list(values) == [0, 1]
    report = json.loads(user.download("Report (JSON)", folder, menu="More files").read_text())
    assert report["threshold"] == 0.05
    assert report["mask"]["voxels"] == counts[1]
    assert [model["run"] for model in report["models"]] == runs_of_link(user)


def runs_of_link(user: User) -> list[str]:
    found = re.search(r"[?&]runs=([^&]+)", user.page.url)
    assert found, user.page.url
    return found[1].replace("%2C", ",").split(",")
