"""Moving between pages: from a click in the menu until the page is drawn and at rest, with many runs on disk.

The runs are copies of a shipped model with its curves and scores, in experiments of two. A Chromium on this computer
goes round the pages; the first round, which imports and fills caches, is left out.

    python benchmarks/pages.py [--runs 40] [--rounds 10] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from first_page import serve
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from covseg_core.data.library.importing import import_sample
from covseg_core.runs import Run, Status, create_run, open_run

TITLES = ("Review", "Live curves", "Runs", "Compare", "Quick prediction", "Data and training")
GOAL = 1.0
"""Seconds, for 95 of 100 moves."""


def main() -> None:
    """Go round the pages, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=40)
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder, sync_playwright() as playwright:
        shipped = open_run("infection-dice")
        os.environ["COVSEG_DATA"] = str(Path(folder, "data"))
        os.environ["COVSEG_CHECKPOINTS"] = str(Path(folder, "checkpoints"))
        import_sample("sample")
        for number in range(options.runs):
            copy_of(shipped, number)
        taken: dict[str, list[tuple[float, float]]] = {title: [] for title in TITLES}
        heights = {}
        with serve() as url:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(url)
            for title in TITLES:
                go(page, title)
            for _ in range(options.rounds):
                for title in TITLES:
                    taken[title].append(go(page, title))
                    heights[title] = page.get_by_test_id("stMain").evaluate("node => node.scrollHeight")
    table = Table("page", "title [s]", "at rest [s]", "95 % [s]", "goal", "height [px]", title=f"{options.runs} runs")
    for title in TITLES:
        shown, rest = np.array(taken[title]).T
        slow = np.percentile(rest, 95)
        goal = f"under {GOAL:g}"
        table.add_row(
            title, f"{np.median(shown):.2f}", f"{np.median(rest):.2f}", f"{slow:.2f}", goal, str(heights[title])
        )
    table.caption = f"load of this machine (1 min) {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"
    Console(width=120).print(table)


def go(page: Page, title: str) -> tuple[float, float]:
    """Seconds until the heading is there, and until the page is at rest."""
    began = time.perf_counter()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    page.get_by_role("heading", name=title, level=1, exact=True).wait_for()
    shown = time.perf_counter() - began
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    return shown, time.perf_counter() - began


def copy_of(shipped: Run, number: int) -> None:
    """A finished run with a model, curves and scores."""
    experiment = f"copy-{number // 2:02d}"
    metric = ("iou", "dice")[number % 2]
    config = dataclasses.replace(
        shipped.config, id=f"{experiment}-{metric}", experiment=experiment, metric=metric, dataset="sample"
    )
    run = create_run(config, shipped.split)
    for name in ("model.onnx", "evaluation.json", "history.csv", "standardise.json"):
        shutil.copy(shipped.folder / name, run.folder)
    run.write_status(Status("finished", epoch=24, epochs=24, seconds=600.0))


if __name__ == "__main__":
    main()
