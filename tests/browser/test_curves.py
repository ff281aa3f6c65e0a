"""Looking closely at curves while they grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeruns import epoch_row
from playwright.sync_api import expect

from covseg_core.runs import Run

if TYPE_CHECKING:
    from .conftest import Open, User

EPOCHS = 40
ZOOMED = """
([low, high]) => { const [from, to] = document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range;
                   return from > low && to < high }
"""
POINTS = "() => Math.max(...document.querySelector('.js-plotly-plot').calcdata.map(points => points.length))"


def test_a_zoom_is_kept_while_the_curves_grow(visit: Open, models: list[Run]) -> None:
    """Who looks at a few epochs closely must not be thrown back to all of them by every new one."""
    for run in models:
        run.write_history([epoch_row(epoch) for epoch in range(1, EPOCHS + 1)])
    user = visit("monitor")
    user.sees("Draw a box in a figure to zoom in.")
    draw_a_box(user)
    user.page.wait_for_function(ZOOMED, arg=[5, EPOCHS - 5])
    for run in models:
        run.write_history([epoch_row(epoch) for epoch in range(1, EPOCHS + 3)])
    user.page.wait_for_function(f"({POINTS})() > {EPOCHS}")
    assert user.page.evaluate(ZOOMED, [5, EPOCHS - 5]), "a refresh has undone the zoom"
    user.click("Show everything")
    user.page.wait_for_function(f"!({ZOOMED})([5, {EPOCHS - 5}])")
    expect(user.main.get_by_role("button", name="Show everything")).to_have_count(0)


def draw_a_box(user: User) -> None:
    """Over the middle of the left figure."""
    box: dict[str, Any] | None = user.page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box
    mouse = user.page.mouse
    mouse.move(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * 0.3)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.65, box["y"] + box["height"] * 0.7, steps=8)
    mouse.up()
