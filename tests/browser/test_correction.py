"""Drawing on a mask with a mouse. What a user loses otherwise: the hours, or the place where it was drawn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from canvas import coloured, picture
from playwright.sync_api import Locator, expect

from covseg_core import rendering
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.revisions import stored_mask

if TYPE_CHECKING:
    from .conftest import Open, User

pytestmark = pytest.mark.usefixtures("webgl")
PLACE = re.compile(r"x (\d+), y (\d+) · slice (\d+) of")


def editor(user: User) -> Locator:
    """The viewer with its tools, once the mask can be drawn on."""
    user.click(re.compile("^Correct Shortcut"))
    viewer = user.main.get_by_role("application", name="Volume viewer")
    expect(viewer).to_have_attribute("data-edit", "ready")
    viewer.scroll_into_view_if_needed()
    user.settles()
    return viewer


def at(viewer: Locator, right: float, down: float) -> tuple[float, float]:
    """A place on the canvas, by shares of its sides."""
    box = viewer.locator("canvas").bounding_box()
    assert box is not None
    return box["x"] + right * box["width"], box["y"] + down * box["height"]


def voxel(viewer: Locator, place: tuple[float, float]) -> tuple[int, int, int]:
    """(z, y, x) from 0 under a place, as the viewer tells it."""
    viewer.page.mouse.move(*place)
    viewer.page.mouse.move(place[0] + 1, place[1])
    viewer.page.mouse.move(*place)
    found = PLACE.search(viewer.locator(".told").first.inner_text())
    assert found is not None
    x, y, z = (int(number) - 1 for number in found.groups())
    return z, y, x


def stroke(viewer: Locator, begin: tuple[float, float], end: tuple[float, float]) -> None:
    mouse = viewer.page.mouse
    mouse.move(*begin)
    mouse.down()
    mouse.move(*end, steps=8)
    mouse.up()


def tell(viewer: Locator, words: str) -> None:
    expect(viewer.get_by_role("status")).to_contain_text(words)


def test_what_is_drawn_with_the_mouse_is_stored_where_it_was_drawn(visit: Open, sample: Dataset) -> None:
    case = sample.cases[0]
    before = stored_mask(sample, case, "infection")
    user = visit(f"review?dataset={sample.name}&case={case.id}")
    viewer = editor(user)
    viewer.press("2")  # axial alone
    begin, end = at(viewer, 0.42, 0.2), at(viewer, 0.58, 0.2)
    first = voxel(viewer, begin)
    user.page.mouse.wheel(0, -100)
    expect(viewer.locator(".told").first).to_contain_text(f"slice {first[0] + 2} of")
    ends = [voxel(viewer, place) for place in (begin, end)]
    plain = picture(viewer)
    stroke(viewer, begin, end)
    tell(viewer, "voxels marked")
    drawn = picture(viewer)
    added = rendering.FALSE_POSITIVE
    assert coloured(drawn, added) > coloured(plain, added) + 200, "what was added is seen"
    viewer.press("Control+z")
    tell(viewer, "taken back")
    assert coloured(picture(viewer), added) <= coloured(plain, added) + 20
    viewer.press("Control+y")
    tell(viewer, "done again")
    assert coloured(picture(viewer), added) > coloured(plain, added) + 200
    viewer.press("3")  # coronal
    across = [voxel(viewer, at(viewer, right, 0.1)) for right in (0.4, 0.6)]
    stroke(viewer, at(viewer, 0.4, 0.1), at(viewer, 0.6, 0.1))
    expect(viewer).to_have_attribute("data-steps", "2")

    user.go("Live curves")
    user.go("Review")
    user.settles()
    viewer = user.main.get_by_role("application", name="Volume viewer")
    expect(viewer).to_have_attribute("data-edit", "ready")
    tell(viewer, "Your 2 last steps are still there")
    viewer.get_by_role("button", name="Done").click()
    user.sees(re.compile(r"voxels added, 0 removed"))
    viewer.press("2")
    stroke(viewer, at(viewer, 0.45, 0.8), at(viewer, 0.5, 0.8))
    expect(viewer).to_have_attribute("data-steps", "3")
    viewer.press("Control+z")
    expect(viewer).to_have_attribute("data-steps", "2")
    viewer.get_by_role("button", name="Done").click()  # a mask can be sent again, as long as it is not saved
    user.settles()
    user.type("Your name", "Ada")
    user.click("Save revision")
    user.sees(re.compile("Revision 2 of"))
    user.sees("History of the masks")

    now = load_dataset(sample.name)
    mask = stored_mask(now, now.case(case.id), "infection")
    assert now.case(case.id).revisions[-1].author == "Ada"
    z, y = ends[0][:2]
    low, high = sorted(place[2] for place in ends)
    assert z == first[0] + 1
    assert mask[z, y, low : high + 1].all(), "the whole way of the mouse"
    changed = np.argwhere(mask != before)
    coronal = changed[changed[:, 0] != z]
    assert {int(one) for one in coronal[:, 1]} == {across[0][1]}, "and in this coronal plane alone"
    assert mask[across[0][0], across[0][1], slice(*sorted(place[2] for place in across))].all()
    changed = changed[changed[:, 0] == z]
    reach = 4 / min(case.spacing[1:]) + 1
    assert changed[:, 1].min() >= y - reach
    assert changed[:, 1].max() <= y + reach
    assert changed[:, 2].min() >= low - reach
    assert changed[:, 2].max() <= high + reach

    again = editor(user)
    again.press("2")
    for _ in range(200):
        shown = voxel(again, at(again, 0.5, 0.2))[0]
        if shown == z:
            break
        user.page.mouse.wheel(0, -100 if shown < z else 100)
    assert voxel(again, at(again, 0.5, 0.2))[0] == z
    expect(again.locator(".told").first).to_contain_text("kept")


def test_eraser_fill_grow_lesion_and_interpolation(visit: Open, sample: Dataset) -> None:
    """Each tool under the mouse; what it marks is tested in `test_drawing`."""
    case = max(sample.cases, key=lambda case: sum(case.infection_voxels or ()))
    user = visit(f"review?dataset={sample.name}&case={case.id}")
    viewer = editor(user)
    viewer.press("2")
    corners = [at(viewer, right, down) for right, down in ((0.45, 0.1), (0.55, 0.1), (0.55, 0.24), (0.45, 0.24))]
    viewer.press("[")
    viewer.press("[")
    user.page.mouse.move(*corners[0])
    user.page.mouse.down()
    for corner in (*corners[1:], corners[0]):
        user.page.mouse.move(*corner, steps=6)
    user.page.mouse.up()
    viewer.press("i")
    middle = at(viewer, 0.5, 0.17)
    user.page.mouse.click(*middle)
    tell(viewer, "voxels filled")
    z = voxel(viewer, middle)[0]
    for _ in range(4):
        viewer.press("ArrowUp")
    viewer.press("b")
    stroke(viewer, at(viewer, 0.48, 0.17), at(viewer, 0.52, 0.17))
    viewer.press("n")
    tell(viewer, f"marked between slices {z + 1} and {z + 5}")
    viewer.press("c")
    user.page.mouse.click(*middle)
    tell(viewer, "removed")
    viewer.press("Control+z")
    viewer.press("e")
    stroke(viewer, at(viewer, 0.48, 0.17), at(viewer, 0.52, 0.17))
    tell(viewer, "voxels cleared")
    viewer.press("g")
    user.page.mouse.click(*middle)
    tell(viewer, "voxels marked")
    steps = viewer.get_attribute("data-steps")
    viewer.get_by_role("button", name="Undo").click()
    tell(viewer, "taken back")
    assert int(viewer.get_attribute("data-steps") or 0) == int(steps or 0) - 1
