"""The volume view. What a user loses otherwise: three planes that are the scan's, with the masks where they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from canvas import coloured, picture
from playwright.sync_api import Locator, expect

from covseg_core import rendering
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.reading.volumes import load_scan
from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open, User

pytestmark = pytest.mark.usefixtures("webgl")
TOLD = re.compile(r"x \d+, y \d+ · slice (\d+) of (\d+) · (\u2212?[\d,]+) HU")
NO_WEBGL = """
const get = HTMLCanvasElement.prototype.getContext
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
    return kind === 'webgl2' ? null : get.call(this, kind, ...more)
}
"""


def volume(user: User) -> Locator:
    """The viewer, once scan and masks are there."""
    user.settles()
    user.choose("View", "Volume")
    viewer = user.main.get_by_role("application", name="Volume viewer")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(viewer).to_have_attribute("data-masks", re.compile("ready|none"))
    viewer.scroll_into_view_if_needed()
    return viewer


def told(viewer: Locator) -> tuple[int, int, str]:
    """Slice, number of slices, and value under the cursor."""
    words = viewer.locator(".told").first
    expect(words).to_contain_text(TOLD)
    found = TOLD.search(words.inner_text())
    assert found is not None
    return int(found[1]), int(found[2]), found[3]


def test_a_step_of_the_wheel_shows_the_next_slice_and_asks_the_server_for_nothing(visit: Open, sample: Dataset) -> None:
    """Hundreds of slices a second from a server with two cores would be no viewer."""
    user = visit(f"?dataset={sample.name}&case={sample.cases[0].id}")
    viewer = volume(user)
    before = picture(viewer)
    assert (before.max(axis=-1) > 60).mean() > 0.2, "the canvas is black"
    assert coloured(before, (0, 158, 115)) > 30, "the true mask"
    assert coloured(before, (204, 121, 167)) > 30, "the outline of the lungs"
    z, slices, _ = told(viewer)
    assert slices == sample.cases[0].slices
    asked: list[str] = []
    user.page.on("request", lambda request: asked.append(request.url))
    sent = user.talk.sent
    box = viewer.locator("canvas").bounding_box()
    assert box is not None
    user.page.mouse.move(box["x"] + box["width"] * 0.15, box["y"] + box["height"] * 0.5)
    user.page.mouse.wheel(0, -100)
    expect(viewer.locator(".told").first).to_contain_text(f"slice {z + 1} of")
    assert (picture(viewer) != before).any(axis=-1).mean() > 0.01, "the picture is the same"
    viewer.press("ArrowDown")
    expect(viewer.locator(".told").first).to_contain_text(f"slice {z} of")
    assert not asked
    assert user.talk.sent == sent


def test_right_is_left_and_up_is_front(visit: Open, sample: Dataset) -> None:
    """As radiologists look at it; a lesion on the wrong side is the worst that a viewer can do."""
    case = sample.cases[0]
    user = visit(f"?dataset={sample.name}&case={case.id}")
    viewer = volume(user)
    for key in ("2", "m", "l", "x"):  # axial, no masks, no lungs, no cross-hair
        viewer.press(key)
    z, _, _ = told(viewer)
    plane = load_scan(sample.path(case, "scan")).voxels[z - 1]
    expected = rendering.grey(plane[::-1, ::-1], case.scale, "lung")
    grey = picture(viewer).mean(axis=-1)
    middle = grey.shape[1] // 2
    half = round(grey.shape[0] / 2 * plane.shape[1] * case.spacing[2] / (plane.shape[0] * case.spacing[1]))
    shown = cv2.resize(grey[:, middle - half : middle + half].astype(np.uint8), expected.shape[::-1])
    like = [
        np.corrcoef(shown[5:-5, 5:-5].ravel(), turned[5:-5, 5:-5].ravel())[0, 1]
        for turned in (expected, expected[:, ::-1], expected[::-1], expected[::-1, ::-1])
    ]
    assert like[0] > 0.95, like
    assert like[0] > max(like[1:]) + 0.02, like


def test_layouts_window_masks_and_3d_change_the_picture(visit: Open, sample: Dataset) -> None:
    user = visit(f"?dataset={sample.name}&case={sample.cases[0].id}")
    viewer = volume(user)
    seen = [picture(viewer)]
    for key in ("2", "w", "m", "5"):  # axial, mediastinum, no masks, 3D
        viewer.press(key)
        seen.append(picture(viewer))
        assert (seen[-1] != seen[-2]).any(), key
    viewer.press("1")
    box = viewer.locator("canvas").bounding_box()
    assert box is not None
    before = picture(viewer)
    user.page.mouse.move(box["x"] + box["width"] * 0.15, box["y"] + box["height"] * 0.5)
    user.page.mouse.down(button="right")
    user.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.6, steps=5)
    user.page.mouse.up(button="right")
    assert (picture(viewer) != before).any(), "dragging with the right button sets the window"


def test_compare_shows_hits_misses_and_false_alarms(visit: Open, models: list[Run]) -> None:
    """In the colours of the pictures, which the legend names; a jump takes the cross-hair along."""
    user = visit("compare?tab=Slices")
    viewer = volume(user)
    for name in ("true positive", "missed", "false alarm"):
        expect(viewer.locator(".legend")).to_contain_text(name)
    masks = viewer.get_by_label("Mask")
    assert len(masks.locator("option").all()) == 1 + len(models) + 2, "none, the models, the truth, where they differ"
    before = picture(viewer)
    masks.select_option(label="Where models differ")
    expect(viewer.locator(".legend")).to_contain_text("half of the models")
    assert (picture(viewer) != before).any()
    user.click("Best slice")
    user.sees(re.compile("Best slice, 1 of"))
    jumped = re.search(r"slice (\d+) of", user.main.get_by_text(re.compile("Best slice, 1 of")).inner_text())
    assert jumped is not None
    expect(viewer.locator(".told").first).to_contain_text(f"slice {jumped[1]} of")
    user.choose("View", "Slices")
    expect(user.panels.first).to_have_attribute("alt", re.compile(f", slice {jumped[1]}$"))


def test_a_prediction_is_seen_as_a_volume(visit: Open, models: list[Run]) -> None:
    user = visit("predict")
    user.choose("Where it is", "From a dataset")
    user.click("Take this scan")
    user.click("Predict")
    user.sees("3. Mask")
    paths: list[str] = []
    user.page.on("request", lambda request: paths.append(request.url) if "/_covseg/volume/" in request.url else None)
    viewer = volume(user)
    assert (picture(viewer).max(axis=-1) > 60).mean() > 0.2
    assert len(paths) == 2, "scan and masks"
    other = visit("predict")
    other.settles()
    for path in paths:
        assert other.page.request.get(path).status in (403, 404), "another browser may not see it"


def test_without_webgl_the_page_says_so_and_shows_pictures(visit: Open, sample: Dataset, models: list[Run]) -> None:
    user = visit()
    user.settles()
    user.page.add_init_script(NO_WEBGL)
    user.page.goto(f"{user.page.url.split('?')[0]}?dataset={sample.name}&case={sample.cases[0].id}")
    user.settles()
    user.choose("View", "Volume")
    user.sees(re.compile("needs WebGL 2"))
    expect(user.panels).to_have_count(2)
    expect(user.main.get_by_role("application", name="Volume viewer")).to_have_count(0)
    user.press("Slice", "ArrowRight")
    expect(user.panels).to_have_count(2)
    user.page.goto(f"{user.page.url.split('?')[0]}compare?tab=Slices")
    user.settles()
    user.choose("View", "Volume")
    user.sees(re.compile("needs WebGL 2"))
    expect(user.panels).to_have_count(len(models) + 3)  # CT, true mask, disagreement
    user.press("Threshold", "ArrowRight")
    expect(user.main.get_by_role("slider", name="Threshold")).to_have_count(1)
    expect(user.panels).to_have_count(len(models) + 3)


@pytest.mark.parametrize("times", [3])
def test_scans_one_after_the_other_are_each_the_right_one(visit: Open, sample: Dataset, times: int) -> None:
    """Nothing of the one before is left in the picture, and the masks are those of the scan."""
    user = visit(f"?dataset={sample.name}&case={sample.cases[0].id}")
    viewer = volume(user)
    seen = [picture(viewer)]
    for case in sample.cases[1:times]:
        user.settles()
        user.pick("Case", case.id)
        expect(user.page).to_have_url(re.compile(f"case={case.id}"))  # the page has heard of it
        expect(viewer).to_have_attribute("data-state", "ready")
        expect(viewer).to_have_attribute("data-masks", "ready")
        seen.append(picture(viewer))
        assert (seen[-1] != seen[-2]).any(axis=-1).mean() > 0.05
