"""The tabs of Compare, for three models and 500 test slices whose scores are stored.

By the menu: from a click in a dashboard that is open until Summary is drawn and at rest, the first time of a server and
again. By links: the same for each tab in a browser session of its own, which loads Streamlit first. The server has
shown another page before. The models are those of `evaluate.py`, in five scans of 100 slices of 256 px.

    python benchmarks/compare.py [--scans 5] [--slices 100] [--looks 5] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from evaluate import SIZE, make_run
from first_page import serve
from pages import go
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from covseg_core.config import THESIS, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation.evaluate import evaluate_run
from covseg_core.runs import Run, Status, create_run
from covseg_core.runs.run import delete_run

TABS = ("Summary", "Slices", "Statistics", "Failures", "Export")


def main() -> None:
    """Make three evaluated runs, look at each tab, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--scans", type=int, default=5)
    arguments.add_argument("--slices", type=int, default=100, help="slices of each scan")
    arguments.add_argument("--looks", type=int, default=5)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    title = f"{len(THESIS)} models, {options.scans * options.slices} slices of {SIZE} px: median [s]"
    table = Table("tab", "first look of a server", "again", "goal", title=title)
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder, sync_playwright() as playwright:
        os.environ |= {"COVSEG_DATA": f"{folder}/data", "COVSEG_CHECKPOINTS": f"{folder}/checkpoints"}
        cases = write_sample(Path(folder, "sample"), options.scans, size=SIZE, slices=options.slices)
        dataset = import_dataset("bench", cases, allow_empty=True)
        runs = [finished_run(make_run(metric), dataset) for metric in THESIS]
        for run in runs:
            evaluate_run(run)
        chosen = ",".join(run.id for run in runs)
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        moves = np.array([by_the_menu(browser) for _ in range(options.looks)])
        table.add_row("Summary, by the menu", *(f"{seconds:.2f}" for seconds in np.median(moves, axis=0)), "under 1.5")
        for tab in TABS:
            first, again = [], []
            for _ in range(options.looks):
                with serve() as url:
                    look(browser, f"{url}/runs", "Runs")
                    first.append(look(browser, f"{url}/compare?runs={chosen}&tab={tab}", "Compare"))
                    again.append(look(browser, f"{url}/compare?runs={chosen}&tab={tab}", "Compare"))
            table.add_row(f"{tab}, by its link", f"{np.median(first):.2f}", f"{np.median(again):.2f}", "")
    table.caption = f"load of this machine (1 min) {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"
    Console(width=120).print(table)


def finished_run(model: Run, dataset: Dataset) -> Run:
    """The same model, as if it had been trained on other scans of this dataset: all that it has are test slices."""
    config = dataclasses.replace(
        model.config, id=f"bench-{model.config.metric}", dataset=dataset.name, fingerprint=dataset.fingerprint
    )
    tested = {case.id: tuple(range(case.slices)) for case in dataset.cases}
    run = create_run(config, Split(SplitConfig(), {}, {}, tested))
    run.onnx.write_bytes(model.onnx.read_bytes())
    model.write_status(Status("stopped"))
    delete_run(model)
    run.write_status(Status("finished", epoch=1, epochs=1, seconds=60.0))
    return run


def by_the_menu(browser: Browser) -> tuple[float, float]:
    """Seconds from a click until Compare shows the newest experiment, for the first and for the second time."""
    with serve() as url:
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(f"{url}/runs")
        page.get_by_role("heading", name="Runs", level=1, exact=True).wait_for()
        page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        first = go(page, "Compare")[1]
        go(page, "Runs")
        again = go(page, "Compare")[1]
        page.context.close()
    return first, again


def look(browser: Browser, url: str, heading: str) -> float:
    """Seconds until a browser session of its own shows the page, by its heading, and rests."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    try:
        began = time.perf_counter()
        page.goto(url)
        page.get_by_test_id("stMain").get_by_role("heading", name=heading, level=1, exact=True).wait_for()
        page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        return time.perf_counter() - began
    finally:
        page.context.close()


if __name__ == "__main__":
    main()
