"""A training belongs to no tab and no dashboard: what a user loses otherwise is hours of computing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psutil
import pytest
from playwright.sync_api import expect

from covseg_core import runs

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Dataset

    from .conftest import Open, Server, Watch

MINUTES = 60_000
AWAY = r"WebSocket|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|Cannot send rerun|/media/"


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
