"""A training belongs to no tab and no dashboard: what a user loses otherwise is hours of computing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil
import pytest
from playwright.sync_api import expect

from covseg_core import runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, WebSocketRoute

    from covseg_core.data.library.datasets import Dataset

    from .conftest import Open, Server, Watch

MINUTES = 60_000
AWAY = (
    r"WebSocket|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|Cannot send rerun|/media/"
    r"|Client Error in reaching server endpoint|Streamlit server is not responding"
)
"""What a browser may say while the dashboard is gone."""


@pytest.mark.training
@pytest.mark.timeout(1500)
def test_a_training_survives_a_closed_tab_and_a_restart(
    visit: Open, server: Server, watch: Watch, sample: Dataset
) -> None:
    watch.allowed.append(AWAY)  # an open tab finds its dashboard gone, for a while
    user = visit()
    user.choose("Metric", "Dice")
    user.type("Epochs", 2000)
    user.open("More settings")
    user.type("Side of the slices (pixels)", 16)
    user.click("Start training")
    user.sees_title("Live curves")
    user.sees(re.compile(r"Epoch [1-9]\d* of 2000"), timeout=3 * MINUTES)
    stays = visit(f"monitor?runs={runs.list_runs()[0].id}")
    stays.sees(re.compile(r"Epoch [1-9]\d* of 2000"))
    user.page.close()

    server.stop()
    [run] = runs.list_runs()
    worker = psutil.Process(run.status.pid)
    away = run.status.epoch
    server.start()

    again = visit()
    again.main.get_by_role("link", name="Live curves").click()
    for tab in (again, stays):
        tab.page.wait_for_function(f"() => {EPOCH} > {away}", timeout=3 * MINUTES)
    assert worker.is_running(), "the same process has trained all the time"

    again.click("Stop")
    for tab in (again, stays):
        expect(tab.main.get_by_text(re.compile("Stopped$"))).to_be_visible()
    assert run.status.state == "stopped"
    kept = run.status.epoch
    again.click("Resume")
    stays.page.wait_for_function(f"() => {EPOCH} > {kept}", timeout=3 * MINUTES)
    again.click("Stop")
    expect(again.main.get_by_text(re.compile("Stopped$"))).to_be_visible()
    assert [row["epoch"] for row in run.history()] == list(range(1, run.status.epoch + 1)), "an epoch is lost"
    again.click("Delete")
    again.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert runs.list_runs(), "deleted without a yes"
    again.click("Delete")
    again.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    for tab in (again, stays):
        tab.sees("No run yet")
    assert not runs.list_runs()


EPOCH = "Number(document.body.innerText.match(/Epoch (\\d+) of/)?.[1] ?? 0)"


class SlowLine:
    """The way from the dashboard to a browser, on which answers can be held up."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.seconds = 0.0
        self._waiting: list[tuple[float, WebSocketRoute, str | bytes]] = []
        page.route_web_socket("**/_stcore/stream", self._join)

    def _join(self, line: WebSocketRoute) -> None:
        server = line.connect_to_server()
        line.on_message(server.send)
        server.on_message(lambda message: self._waiting.append((time.monotonic() + self.seconds, line, message)))

    def carry(self, until: Callable[[], object], limit: float = 60) -> None:
        """Bring what is due, until something is so."""
        end = time.monotonic() + limit
        while not until():
            assert time.monotonic() < end, "waited in vain"
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, line, message = self._waiting.pop(0)
                line.send(message)
            self.page.wait_for_timeout(30)


def test_a_page_that_is_left_takes_nothing_off_the_next_one(
    browser: Browser, server: Server, watch: Watch, models: list[runs.Run]
) -> None:
    """Over a slow line a browser still asks for parts of the old page; the answer once broke the new one for good."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    watch.look_at(page.context)
    line = SlowLine(page)
    page.goto(server.url, wait_until="commit")
    start = page.get_by_role("button", name="Start training")
    line.carry(lambda: start.count() and page.get_by_text("All runs").count())
    line.seconds = 6.5  # longer than that part waits between two looks
    start.click(no_wait_after=True)
    heading = page.get_by_role("heading", name="Live curves", exact=True, level=1)
    line.carry(heading.count)
    began, line.seconds = time.monotonic(), 0.0
    line.carry(lambda: time.monotonic() - began > 9)
    assert heading.count() == 1
    page.context.close()
    assert not watch.unexpected
