"""The table of all runs, as somebody with a mouse and a keyboard uses it."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from fakeruns import epoch_row
from playwright.sync_api import expect

from covseg_core import runs
from covseg_core.config import PrepareConfig, TrainConfig
from covseg_core.runs import Run
from covseg_core.runs.labels import read_labels

if TYPE_CHECKING:
    from .conftest import Open, User

TALLEST = 2000
CELL = 17
"""Half the height of a row [px]."""


def test_a_run_is_named_tagged_chosen_and_compared_in_the_table(visit: Open, models: list[Run]) -> None:
    """The table is drawn on a canvas, so that only a real browser can write in it."""
    more_runs(models[0], 40)
    user = visit("runs")
    user.sees("Tick runs to work with them.")
    name = first_cell(user, "Name")
    write(user, name, "Larger slices")
    first = next(run for run in runs.list_runs() if read_labels(run).name)
    assert read_labels(first).name == "Larger slices"
    user.type("Search", "larger")
    user.click("Choose all 1")
    user.sees("1 run chosen")
    assert first.id in user.page.url
    tick(user)
    user.sees("Tick runs to work with them.")
    tick(user)
    user.sees("1 run chosen")
    assert user.page.get_by_test_id("stMain").evaluate("node => node.scrollHeight") < TALLEST
    user.type("Search", "")
    user.click("Choose none")
    user.type("Search", "first-")
    user.click("Choose all 3")
    user.sees("3 runs chosen")
    user.main.get_by_role("link", name="Compare").click()
    user.sees_title("Compare")
    user.sees("Every model, every metric, the same test slices")
    user.go("Runs")
    expect(user.main.get_by_text(re.compile("3 runs chosen"))).to_be_visible()


def test_settings_are_drawn_against_the_score(visit: Open, models: list[Run]) -> None:
    """A point a run over one setting, and a line a run over all; and the page stays short enough to be seen."""
    more_runs(models[0], 6)
    user = visit("runs")
    user.type("Search", "other-")
    user.click("Choose all 6")
    user.open("Settings against score")
    user.choose("Score", "Validation Dice")
    points, lines = user.main.locator(".js-plotly-plot").nth(0), user.main.locator(".js-plotly-plot").nth(1)
    expect(points.locator(".scatterlayer .point")).to_have_count(6)
    expect(lines.locator(".scatterlayer .js-line")).to_have_count(6)
    assert user.page.get_by_test_id("stMain").evaluate("node => node.scrollHeight") < TALLEST


def more_runs(like: Run, count: int) -> None:
    for number in range(count):
        id = f"other-{number:02d}-dice"
        config = dataclasses.replace(
            like.config,
            id=id,
            experiment=f"other-{number:02d}",
            prepare=PrepareConfig(size=64 + 16 * (number % 3)),
            train=TrainConfig(seed=number),
        )
        run = runs.create_run(config, like.split)
        run.write_history([epoch_row(1)])
        run.write_status(dataclasses.replace(run.status, state="finished", epoch=1, epochs=1))


def first_cell(user: User, column: str) -> tuple[float, float]:
    """Where the cell of the first row is on the page [px], by the table's own description of itself."""
    user.settles()
    canvas = user.main.get_by_test_id("data-grid-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    # pinned, after the column of ticks
    x = {"Choose": 20, "Name": 100}[column]
    return box["x"] + x, box["y"] + 38 + CELL


def write(user: User, cell: tuple[float, float], text: str) -> None:
    user.page.mouse.dblclick(*cell)
    field = user.page.locator("#portal textarea, #portal input").first
    field.fill(text)
    field.press("Enter")
    user.settles()


def tick(user: User) -> None:
    user.page.mouse.click(*first_cell(user, "Choose"))
    user.settles()
