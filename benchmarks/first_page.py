"""The first page: from starting the dashboard to a page that can be read, in a fresh Chromium on this computer.

The browser is open already, as a user's is, and asks for the page as soon as the server answers. The data folder is
empty. Time is by the clock; the first start of all, which reads from a cold disk, is left out as a warm-up.

    python benchmarks/first_page.py [--starts 5] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from dashboard import navigation

ROOT = Path(__file__).resolve().parent.parent
PAGES = {entry.url: entry.title for entry in navigation.PAGES}


def main() -> None:
    """Start the dashboard several times for each page, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--starts", type=int, default=5)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    table = Table("page", "server answers", "page can be read", "its next load", "goal", title="first page, median [s]")
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder, sync_playwright() as playwright:
        os.environ["COVSEG_DATA"] = str(Path(folder, "data"))
        os.environ["COVSEG_CHECKPOINTS"] = str(Path(folder, "checkpoints"))
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        start(browser, "", PAGES[""])
        for path, title in PAGES.items():
            taken = np.array([start(browser, path, title) for _ in range(options.starts)])
            table.add_row(title, *(f"{seconds:.2f}" for seconds in np.median(taken, axis=0)), "under 3")
    table.caption = f"load of this machine (1 min) {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"
    Console(width=120).print(table)


def start(browser: Browser, path: str, title: str) -> tuple[float, float, float]:
    """Seconds from the start until the server answers and until the heading is drawn; and a second load of the page."""
    began = time.perf_counter()
    with serve() as url:
        answered = time.perf_counter()
        page = browser.new_context().new_page()
        heading = page.get_by_role("heading", name=title, exact=True)
        page.goto(f"{url}/{path}")
        heading.wait_for()
        read = time.perf_counter()
        page.reload()
        heading.wait_for()
        again = time.perf_counter()
        page.context.close()
        return answered - began, read - began, again - read


@contextmanager
def serve() -> Iterator[str]:
    """The address of a dashboard that answers, with the folders of this process's environment, until it is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.headless=true"]
    server = subprocess.Popen([*command, f"--server.port={port}"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str) -> None:
    """Until the server answers."""
    for _ in range(3000):
        try:
            with urllib.request.urlopen(url + "/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.01)
    raise SystemExit("the dashboard did not start")


if __name__ == "__main__":
    main()
