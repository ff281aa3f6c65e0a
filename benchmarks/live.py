"""The live page: server time of a refresh, and memory while many browsers watch.

Twenty runs of 250 epochs, one of which learns an epoch every two seconds, on the dashboard's own page. Time is taken in
the server around the fragments that refresh, from reading the files to the figure's JSON; CPU time is that of the
thread, so that other work on the machine does not count. Memory is the server's alone. One browser is a Chromium that
draws, the others only listen (watchers.py).

    python benchmarks/live.py [--minutes 5] [--browsers 10] [--runs 20] [--epochs 250] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table
from watchers import Watchers

from covseg_core import runs
from covseg_core.config import METRICS, THESIS, RunConfig, SplitConfig, TrainConfig
from covseg_core.data.splitting.split import Split
from covseg_core.files import write_json
from covseg_core.runs import Run
from covseg_core.runs.previews import PreviewSlice

ROOT = Path(__file__).resolve().parent.parent
PACE = 2.0
"""Seconds between two epochs, and between two refreshes."""
WARM_UP = 0.2
"""Share of the time that does not count for memory: caches fill."""
PAGE = f"""
import functools, runpy, sys, time
sys.path.insert(0, {str(ROOT)!r})
import streamlit as st
st.set_page_config(layout="wide")
if not hasattr(st, "untimed"):
    from dashboard.services import startup
    startup.start().join()  # as app.py does when the server starts
    st.untimed = st.fragment
    def timed(function, **options):
        @functools.wraps(function)
        def measured(*values):
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*values)
            finally:
                with open(TIMES, "a") as file:
                    taken = time.perf_counter() - wall, time.thread_time() - cpu
                    print(function.__name__, *taken, file=file)
        return st.untimed(measured, **options)
    st.fragment = timed
runpy.run_path({str(ROOT / "dashboard" / "app_pages" / "monitor" / "page.py")!r})
"""


def main() -> None:
    """Make the runs in a folder that is removed afterwards, serve the page, watch it, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=5.0)
    arguments.add_argument("--browsers", type=int, default=10)
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--epochs", type=int, default=250)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_DATA"] = str(Path(folder, "data"))
        os.environ["COVSEG_CHECKPOINTS"] = str(Path(folder, "checkpoints"))
        made = [make_run(number, options.epochs) for number in range(options.runs)]
        script, times = Path(folder, "page.py"), Path(folder, "times.txt")
        script.write_text(f"TIMES = {str(times)!r}\n{PAGE}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.headless=true"]
        quiet = ["--server.fileWatcherType=none", f"--server.port={port}"]
        server = subprocess.Popen([*command, *quiet], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            link = f"{url}/?runs={','.join(run.id for run in made)}"
            memory, epochs, load, refreshes = watch(link, psutil.Process(server.pid), made[0], options)
        finally:
            server.terminate()
            server.wait()
        Console(width=120).print(report(times, memory, epochs, load, refreshes, options))


def watch(
    link: str, server: psutil.Process, learning: Run, options: argparse.Namespace
) -> tuple[np.ndarray, tuple[int, int], float, list[int]]:
    """Returns time [min] and memory [MB] while all watch, the last epoch drawn before and after, cores used, and
    refreshes that each listener has received."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        page.goto(link, timeout=120_000)
        page.wait_for_selector(".js-plotly-plot", timeout=120_000)
        address, _, query = link.removeprefix("http://").partition("/?")
        watchers = Watchers(address, query, options.browsers - 1)
        page.wait_for_timeout(5000 * PACE)
        first, seen = drawn(page), list(watchers.finished)
        samples, start, epoch = [], time.monotonic(), options.epochs
        cpu = server.cpu_times()
        while (gone := time.monotonic() - start) < 60 * options.minutes:
            epoch += 1
            learn(learning, epoch)
            samples.append((gone / 60, server.memory_info().rss / 2**20))
            page.wait_for_timeout(1000 * PACE)  # also lets the browsers speak
        after = server.cpu_times()
        load = (after.user + after.system - cpu.user - cpu.system) / (time.monotonic() - start)
        page.wait_for_timeout(3000 * PACE)
        last = drawn(page)
        watchers.stop()
        browser.close()
    refreshes = [after - before for before, after in zip(seen, watchers.finished, strict=True)]
    return np.array(samples), (first, last), load, refreshes


def report(
    times: Path,
    memory: np.ndarray,
    epochs: tuple[int, int],
    load: float,
    refreshes: list[int],
    options: argparse.Namespace,
) -> Table:
    title = f"live page, {options.runs} runs of {options.epochs} epochs, {options.browsers} browsers"
    table = Table("figure", "measured", "goal", title=title)
    taken = [line.split() for line in times.read_text().splitlines()]
    for name, what in (("show_live", "refresh of curves and runs"), ("show_epoch", "refresh of the predictions")):
        wall, cpu = (np.array([float(row[column]) for row in taken if row[0] == name]) * 1000 for column in (1, 2))
        goal = "under 100 ms" if name == "show_live" else ""
        table.add_row(f"{what}: CPU time, median of {len(cpu)}", f"{np.median(cpu):.0f} ms", goal)
        table.add_row("    90th percentile", f"{np.percentile(cpu, 90):.0f} ms", "")
        table.add_row("    by the clock, median", f"{np.median(wall):.0f} ms", "")
    settled = memory[memory[:, 0] > WARM_UP * memory[-1, 0]]
    slope = np.polyfit(settled[:, 0], settled[:, 1], 1)[0]
    fifths = " ".join(f"{np.median(part[:, 1]):.0f}" for part in np.array_split(memory, 5))
    table.add_row("server memory, median of each fifth of the time", f"{fifths} MB", "")
    table.add_row(f"    trend over the last {settled[-1, 0] - settled[0, 0]:.1f} min", f"{slope:+.2f} MB/min", "flat")
    if refreshes:
        table.add_row("refreshes a listener has received, fewest and most", f"{min(refreshes)}, {max(refreshes)}", "")
    table.add_row("server CPU while all watch", f"{load:.2f} cores", "")
    table.add_row("last epoch in the first browser, before and after", f"{epochs[0]}, {epochs[1]}", "grows")
    table.add_row("load of this machine (1 min), cores", f"{os.getloadavg()[0]:.1f}, {os.cpu_count()}", "")
    return table


def drawn(page: Page) -> int:
    """Largest number of epochs in the browser's figure."""
    return page.evaluate("Math.max(...document.querySelector('.js-plotly-plot').calcdata.map(points => points.length))")


def make_run(number: int, epochs: int) -> Run:
    """A run with its curves and previews; the first one is running, as far as anybody can tell."""
    metric = THESIS[number % 3]
    config = RunConfig(
        id=f"bench-{number:02d}",
        experiment=f"bench-{number // 3}",
        dataset="bench",
        fingerprint="0" * 64,
        metric=metric,
        preset="standard",
        created=f"2026-01-{number % 28 + 1:02d}T00:00:00.000000+00:00",
        train=TrainConfig(epochs=100 * epochs),
    )
    run = runs.create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
    ours = {"device": "1 CPU (2 cores), tensorflow, float32"}
    state = "running" if number == 0 else "finished"
    run.write_status(dataclasses.replace(run.status, state=state, epoch=epochs, epochs=config.train.epochs, **ours))
    learn(run, epochs)
    random = np.random.default_rng(number)
    run.previews.mkdir()
    np.save(run.previews / "images.npy", random.integers(0, 255, (4, 256, 256), np.uint8))
    np.save(run.previews / "masks.npy", random.integers(0, 2, (4, 256, 256), np.uint8))
    write_json(run.previews / "slices.json", [PreviewSlice("case", z) for z in range(4)])
    for epoch in range(1, epochs + 1):
        np.save(run.previews / f"epoch_{epoch:04d}.npy", random.integers(0, 255, (4, 256, 256), np.uint8))
    return run


def learn(run: Run, epochs: int) -> None:
    """Curves with the digits of real ones."""
    steps = np.arange(1, epochs + 1)
    random = np.random.default_rng(abs(hash(run.id)) % 2**32)
    columns, scores = {"epoch": steps}, [METRICS[metric].score for metric in THESIS]
    for name in ("loss", *scores, "val_loss", *(f"val_{name}" for name in scores)):
        level = 1 / steps if "loss" in name else 1 - 1 / steps
        columns[name] = level + random.normal(0, 0.02, epochs)
    columns |= {"learning_rate": np.full(epochs, 1e-3), "seconds": np.full(epochs, 2.0), "total_seconds": 2.0 * steps}
    run.write_history([dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)])


def wait_for(url: str) -> None:
    """Until the server answers."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(url + "/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the dashboard did not start")


if __name__ == "__main__":
    main()
