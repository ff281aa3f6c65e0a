"""While others import and predict: how long somebody else's page takes to open, in Chromium on this computer.

Three users import scans over and over, a fourth asks the shipped model about one, all in one dashboard with folders of
its own; meanwhile a fifth opens the pages in turn, each time as a new visitor.

    python benchmarks/busy.py [--loads 100] [--idle] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from first_page import PAGES, serve
from playwright.async_api import Browser, Page, async_playwright
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from covseg_core.data.phantom.phantom import write_sample

GOAL = 3.0
"""Seconds, 95th percentile."""
PATIENCE = 300_000
"""For one step of the work of the others [ms]."""
CHROMIUM = ["--no-sandbox", "--disable-background-networking"]
Work = Callable[[Page, str], Awaitable[None]]


def main() -> None:
    """Start a dashboard, keep it busy, open pages, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--loads", type=int, default=100)
    arguments.add_argument("--idle", action="store_true", help="without the others, to compare")
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        scans = make_scans(Path(folder))
        os.environ |= {"COVSEG_DATA": f"{folder}/data", "COVSEG_CHECKPOINTS": f"{folder}/checkpoints"}
        with serve() as url:
            others = Others(url, options.chromium, scans)
            if not options.idle:
                others.start()
            taken = open_pages(url, options.chromium, options.loads)
            others.stop()
    table = Table("page", "median", "95 %", "slowest", title="a page opens for a new visitor [s]")
    for title, seconds in [*taken.items(), ("all", [second for each in taken.values() for second in each])]:
        table.add_row(title, *(f"{value:.2f}" for value in (*np.percentile(seconds, [50, 95]), max(seconds))))
    done = "nobody else" if options.idle else f"meanwhile {others.imported} imports and {others.predicted} predictions"
    table.caption = f"{done}; goal {GOAL:g} s for 95 %; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    Console(width=120).print(table)


def make_scans(folder: Path) -> Path:
    """`scans/` of six cases, and another scan by itself in `alone/`."""
    cases = write_sample(folder / "scans", scans=7, size=256, slices=40)
    shutil.rmtree(cases[1])  # without a lesion: an import asks whether that is meant
    write_sample(folder / "alone", scans=1, size=256, slices=40, seed=1)
    return folder


class Others:
    """Four users who keep the dashboard busy, each with a page of one browser.

    Their browser stands for other computers: what it computes is left to moments in which nobody else does.
    """

    def __init__(self, url: str, chromium: str, scans: Path) -> None:
        self.imported = self.predicted = 0
        self._url, self._chromium, self._scans = url, chromium, scans
        self._end = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Returns as soon as each kind of work has been done once."""
        self._thread.start()
        while not (self.imported >= 3 and self.predicted) and not self._failures:
            time.sleep(0.2)

    def stop(self) -> None:
        """Let them finish; raises what went wrong with one."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE / 1000)
        if self._failures:
            raise self._failures[0]

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # told at the end
            self._failures.append(error)

    async def _work(self) -> None:
        folder = self._scans / "browser"
        folder.mkdir()
        program = folder / "chromium"
        program.write_text(f'#!/bin/sh\nexec nice -n 19 "{self._chromium}" "$@"\n')
        program.chmod(0o755)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program, args=CHROMIUM)
            async with asyncio.TaskGroup() as tasks:
                for number in range(3):
                    tasks.create_task(self._again(browser, self._import, number))
                tasks.create_task(self._again(browser, self._predict, 3))

    async def _again(self, browser: Browser, work: Work, number: int) -> None:
        """Until the end, as a new visitor each time."""
        for times in itertools.count():
            if self._end.is_set():
                return
            context = await browser.new_context()
            page = await context.new_page()
            page.set_default_timeout(PATIENCE)
            await work(page, f"{number}-{times}")
            await context.close()

    async def _import(self, page: Page, name: str) -> None:
        """Upload the folder and import it under a name of its own."""
        await page.goto(self._url)
        await page.locator('input[type="file"]').first.set_input_files(self._scans / "scans")
        field = page.get_by_label("Name of the dataset", exact=True)
        await field.fill(f"scans-{name}")
        await field.press("Enter")
        await page.get_by_role("button", name="Import").first.click()
        await page.get_by_text("is ready").first.wait_for()
        self.imported += 1

    async def _predict(self, page: Page, name: str) -> None:
        """Upload a scan and ask the model that is chosen at first."""
        await page.goto(f"{self._url}/predict")
        await page.get_by_role("heading", name=PAGES["predict"], exact=True).wait_for()
        await page.locator('input[type="file"]').first.set_input_files(next(self._scans.glob("alone/*/ct.nii.gz")))
        await page.get_by_role("button", name="Predict", exact=True).click()
        await page.get_by_text("Done").first.wait_for()
        self.predicted += 1


def open_pages(url: str, chromium: str, loads: int) -> dict[str, list[float]]:
    """Seconds until the heading can be read, by page."""
    taken: dict[str, list[float]] = {title: [] for title in PAGES.values()}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        for number in range(loads):
            path, title = list(PAGES.items())[number % len(PAGES)]
            page = browser.new_context().new_page()
            page.set_default_timeout(PATIENCE)
            began = time.perf_counter()
            page.goto(f"{url}/{path}")
            page.get_by_role("heading", name=title, exact=True).wait_for()
            taken[title].append(time.perf_counter() - began)
            page.context.close()
    return taken


if __name__ == "__main__":
    main()
