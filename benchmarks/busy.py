"""While others import and predict: how long somebody else's page takes to open, in Chromium on this computer.

Three browsers import scans over and over, a fourth asks the shipped model about one, all in one dashboard with folders
of its own; meanwhile a fifth opens the pages in turn, each time as a new visitor.

    python benchmarks/busy.py [--loads 100] [--idle] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from first_page import PAGES, ROOT, wait_for
from playwright.sync_api import Browser, Page, expect, sync_playwright
from rich.console import Console
from rich.table import Table

from covseg_core.data.phantom.phantom import write_sample

GOAL = 3.0
"""Seconds, 95th percentile."""
PATIENCE = 300_000
"""For the work of the others [ms]."""


def main() -> None:
    """Start a dashboard, keep it busy, open pages, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--loads", type=int, default=100)
    arguments.add_argument("--idle", action="store_true", help="without the others, to compare")
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        scans = make_scans(Path(folder))
        environment = {**os.environ, "COVSEG_DATA": f"{folder}/data", "COVSEG_CHECKPOINTS": f"{folder}/checkpoints"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.headless=true"]
        server = subprocess.Popen(
            [*command, f"--server.port={port}"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{port}"
        others = Others(url, options.chromium)
        try:
            wait_for(url)
            if not options.idle:
                for number in range(3):
                    others.start(imports(scans, number))
                others.start(predictions(scans))
                others.wait_until_busy()
            taken = open_pages(url, options.chromium, options.loads)
        finally:
            others.stop()
            server.terminate()
            server.wait()
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
    """Browsers that keep the dashboard busy, each in a thread of its own."""

    def __init__(self, url: str, chromium: str) -> None:
        self.imported = self.predicted = 0
        self._url, self._chromium = url, chromium
        self._threads: list[threading.Thread] = []
        self._end, self._failures = threading.Event(), list[BaseException]()

    def start(self, work: Callable[[Page, str, Others], None]) -> None:
        """Do it again and again until the end."""

        def repeat() -> None:
            try:
                with sync_playwright() as playwright:
                    browser = launch(playwright.chromium, self._chromium)
                    while not self._end.is_set():
                        page = browser.new_context().new_page()
                        work(page, self._url, self)
                        page.context.close()
            except BaseException as error:  # told at the end
                self._failures.append(error)

        self._threads.append(threading.Thread(target=repeat, daemon=True))
        self._threads[-1].start()

    def wait_until_busy(self) -> None:
        """Until each kind of work has been done once."""
        while not (self.imported >= 3 and self.predicted) and not self._failures:
            time.sleep(0.2)

    def stop(self) -> None:
        """Let them finish; raises what went wrong with one."""
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE / 1000)
        if self._failures:
            raise self._failures[0]


def imports(scans: Path, number: int) -> Callable[[Page, str, Others], None]:
    """Upload the folder and import it under a name of its own."""
    made = 0

    def work(page: Page, url: str, others: Others) -> None:
        nonlocal made
        made += 1
        page.goto(url)
        page.locator('input[type="file"]').first.set_input_files(scans / "scans")
        field = page.get_by_label("Name of the dataset", exact=True)
        field.wait_for(timeout=PATIENCE)
        field.fill(f"scans-{number}-{made}")
        field.press("Enter")
        page.get_by_role("button", name="Import").first.click(timeout=PATIENCE)
        expect(page.get_by_text("is ready").first).to_be_visible(timeout=PATIENCE)
        others.imported += 1

    return work


def predictions(scans: Path) -> Callable[[Page, str, Others], None]:
    """Upload a scan and ask the model that is chosen at first."""

    def work(page: Page, url: str, others: Others) -> None:
        page.goto(f"{url}/predict")
        page.get_by_role("heading", name=PAGES["predict"], exact=True).wait_for(timeout=PATIENCE)
        page.locator('input[type="file"]').first.set_input_files(next(scans.glob("alone/*/ct.nii.gz")))
        page.get_by_role("button", name="Predict", exact=True).click(timeout=PATIENCE)
        expect(page.get_by_text("Done").first).to_be_visible(timeout=PATIENCE)
        others.predicted += 1

    return work


def open_pages(url: str, chromium: str, loads: int) -> dict[str, list[float]]:
    """Seconds until the heading can be read, by page."""
    taken: dict[str, list[float]] = {title: [] for title in PAGES.values()}
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium, chromium)
        for number in range(loads):
            path, title = list(PAGES.items())[number % len(PAGES)]
            page = browser.new_context().new_page()
            began = time.perf_counter()
            page.goto(f"{url}/{path}")
            page.get_by_role("heading", name=title, exact=True).wait_for(timeout=PATIENCE)
            taken[title].append(time.perf_counter() - began)
            page.context.close()
    return taken


def launch(kind, chromium: str) -> Browser:
    return kind.launch(executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"])


if __name__ == "__main__":
    main()
