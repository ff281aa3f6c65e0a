"""Looking closely at curves while they grow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fakeruns import epoch_row
from playwright.sync_api import expect

from covseg_core.runs import Run, host
from covseg_core.runs.liveness import this_process

if TYPE_CHECKING:
    from .conftest import Open, User

EPOCHS = 40
FIGURE = """
(fits => { const figure = document.querySelector('.js-plotly-plot'), axis = figure?._fullLayout?.xaxis;
           // between two figures there is none for a moment
           if (!axis || !figure.calcdata) return false;
           const [low, high] = axis.range, points = Math.max(...figure.calcdata.map(curve => curve.length));
           return fits(low, high, points) })
"""
ZOOMED = f"() => {FIGURE}((low, high) => low > 5 && high < {EPOCHS - 5})"
GROWN_AND_ZOOMED = f"() => {FIGURE}((low, high, points) => points > {EPOCHS} && low > 5 && high < {EPOCHS - 5})"
WHOLE = f"() => {FIGURE}((low, high) => low <= 1 && high >= {EPOCHS})"


def test_a_zoom_is_kept_while_the_curves_grow(visit: Open, models: list[Run]) -> None:
    """Who looks at a few epochs closely must not be thrown back to all of them by every new one."""
    for run in models:
        run.write_history([epoch_row(epoch) for epoch in range(1, EPOCHS + 1)])
    user = visit("monitor")
    user.sees("Draw a box in a figure to zoom in.")
    draw_a_box(user)
    user.page.wait_for_function(ZOOMED)
    for run in models:
        run.write_history([epoch_row(epoch) for epoch in range(1, EPOCHS + 3)])
    user.page.wait_for_function(GROWN_AND_ZOOMED)
    user.click("Show everything")
    user.page.wait_for_function(WHOLE)
    expect(user.main.get_by_role("button", name="Show everything")).to_have_count(0)


RECORDS = """
    window.told = []
    window.Notification = class {
        static permission = "default"
        static async requestPermission() { return this.permission = "granted" }
        constructor(title, { body }) { window.told.push(`${title}: ${body}`) }
    }
"""


def test_the_browser_tells_that_a_training_has_ended(visit: Open, models: list[Run]) -> None:
    """Who waits for a training looks at something else meanwhile."""
    run = models[2]
    done = run.status
    run.write_status(dataclasses.replace(done, state="running", process=this_process(), host=host()))
    user = visit("")
    user.page.add_init_script(RECORDS)
    user.page.goto(f"{user.page.url.partition('?')[0]}monitor")
    user.main.get_by_role("button", name="Notify me when a training ends").click()
    expect(user.main.get_by_role("button", name="Notify me when a training ends")).to_have_count(0)
    run.write_status(done)
    user.sees("Training ended")
    expect(user.page).to_have_title("(1) Training ended")
    user.page.wait_for_function("() => window.told.length")
    user.settles()
    assert user.page.evaluate("window.told") == ["Training ended: Dice finished"]
    user.main.get_by_role("link", name="Compare", exact=True).click()
    user.sees_title("Compare")


def draw_a_box(user: User) -> None:
    """Over the middle of the left figure."""
    user.settles()  # else what is still to come pushes the figure down, and the box is drawn beside it
    drag = user.page.locator(".js-plotly-plot .nsewdrag").first
    drag.hover()  # scrolls there
    box: dict[str, Any] | None = drag.bounding_box()
    assert box
    mouse = user.page.mouse
    mouse.move(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * 0.3)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.65, box["y"] + box["height"] * 0.7, steps=8)
    mouse.up()
