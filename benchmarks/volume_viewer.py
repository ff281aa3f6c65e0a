"""The volume view in a browser with WebGL in software: first picture, a step of the wheel, and the server's memory.

Scans of 512 x 512 x 300 and 256 x 256 x 80 with mask and lungs, through the dashboard itself and Chromium on this
computer. The first picture is counted from the click on *Volume*, a step from the wheel's event to the next drawn
picture. Then many scans are looked at one after the other, each in a session of its own.

    python benchmarks/volume_viewer.py [--steps 30] [--scans 100] [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from playwright.sync_api import Locator, Page, sync_playwright
from rich.console import Console
from rich.table import Table
from viewer import ROOT, cpu_seconds, wait_for

from covseg_core.data.library.importing import import_dataset

SIZES = {"large": (512, 300, 4.0), "small": (256, 80, 2.0)}
"""Side, slices, and the goal for the first picture [s]."""
CASES = 6
"""Of the small scan, for the memory."""
FLAGS = ["--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
DRAWN = """
viewer => new Promise(done => {
    const before = viewer.dataset.drawn, started = performance.now()
    const look = () => viewer.dataset.drawn === before ? setTimeout(look, 1) : done(performance.now() - started)
    const canvas = viewer.querySelector('canvas'), box = canvas.getBoundingClientRect()
    canvas.dispatchEvent(new WheelEvent('wheel', {
        deltaY: -100, clientX: box.left + box.width * 0.15, clientY: box.top + box.height / 2, bubbles: true,
        composed: true, cancelable: true
    }))
    look()
})
"""


def main() -> None:
    """Make the scans in a folder that is removed afterwards, serve them, look at them, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--scans", type=int, default=100)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_DATA"] = str(Path(folder, "data"))
        os.environ["COVSEG_CHECKPOINTS"] = str(Path(folder, "checkpoints"))
        for name, (side, slices, _) in SIZES.items():
            make(Path(folder), name, side, slices, CASES if name == "small" else 1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py")]
        quiet = ["--server.headless=true", "--server.fileWatcherType=none", f"--server.port={port}"]
        server = subprocess.Popen([*command, *quiet], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            table = measure(f"http://127.0.0.1:{port}", psutil.Process(server.pid), options)
        finally:
            server.terminate()
            server.wait()
    Console(width=120).print(table)


def measure(url: str, server: psutil.Process, options: argparse.Namespace) -> Table:
    """Each size three times, the first time before the scan is in the server's memory; then many scans."""
    wait_for(url)
    title = f"volume view, WebGL in software, {options.steps} steps"
    table = Table("figure", "measured", "goal", title=title)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        look(page, f"{url}/?dataset=small&case=case_0", server)  # the browser keeps the library from then on
        for name, (side, slices, goal) in SIZES.items():
            looks = [look(page, f"{url}/?dataset={name}&case=case_0", server) for _ in range(3)]
            firsts = ", ".join(f"{first:.1f}" for first, _, _ in looks)
            shape = f"{side} x {side} x {slices}"
            table.add_row(f"{shape}: first picture", f"{firsts} s", f"under {goal:g} s")
            spent = ", ".join(f"{cpu:.1f}" for _, _, cpu in looks)
            table.add_row(f"{shape}: CPU time until then, server and browser", f"{spent} s", "")
            table.add_row(f"{shape}: all planes", ", ".join(f"{ready:.1f}" for _, ready, _ in looks) + " s", "")
            before = cpu_seconds(server)
            taken = [viewer(page).evaluate(DRAWN) for _ in range(options.steps)]
            used = [(now - then) / options.steps for now, then in zip(cpu_seconds(server), before, strict=True)]
            table.add_row(f"{shape}: a step, median", f"{np.median(taken):.0f} ms", "")
            words = f"{1000 * used[0]:.1f} and {1000 * used[1]:.0f} ms"
            table.add_row(f"{shape}: CPU time a step, server and browser", words, "server under 50 ms")
        memory = []
        for turn in range(options.scans):
            look(page, f"{url}/?dataset=small&case=case_{turn % CASES}", server)
            memory.append(server.memory_info().rss / 2**20)
        browser.close()
    if len(memory) > 2 * CASES:
        half = len(memory) // 2
        words = f"{memory[half]:.0f} to {memory[-1]:.0f} MB"
        table.add_row(f"server's memory from scan {half} to {len(memory)}", words, "flat")
    table.add_row("load of this machine (1 min), cores", f"{os.getloadavg()[0]:.1f}, {os.cpu_count()}", "")
    return table


def look(page: Page, url: str, server: psutil.Process) -> tuple[float, float, float]:
    """Seconds from the click to the first picture and until scan and masks are there, and CPU seconds to the first."""
    page.goto(url)
    button = page.get_by_role("radiogroup", name="View").get_by_text("Volume", exact=True)
    button.wait_for(timeout=300_000)
    page.wait_for_timeout(1500)  # the page is at rest
    before = sum(cpu_seconds(server))
    button.evaluate("button => { window.clicked = performance.now(); button.click() }")
    shown = viewer(page)
    shown.wait_for(timeout=300_000)
    seconds: list[float] = []
    spent = 0.0
    for sign in ("viewer.dataset.first", "viewer.dataset.state === 'ready' && viewer.dataset.masks === 'ready'"):
        step = f"({sign}) ? done(performance.now() - window.clicked) : setTimeout(look, 5)"
        waiting = f"viewer => new Promise(done => {{ const look = () => {step}; look() }})"
        seconds.append(shown.evaluate(waiting) / 1000)
        spent = spent or sum(cpu_seconds(server)) - before
    return seconds[0], seconds[1], spent


def viewer(page: Page) -> Locator:
    """Where the volume is drawn."""
    return page.get_by_role("application", name="Volume viewer")


def make(folder: Path, name: str, side: int, slices: int, cases: int) -> None:
    """A dataset of scans with noise, as real ones have it, a lesion, and lungs."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side),) * 2, indexing="ij")
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    lungs = (np.abs(x) - 0.4) ** 2 / 0.08 + y**2 / 0.25 < 1
    plane = np.where(lungs, -800, np.where(body, 40, -1000)).astype(np.int16)
    nib.openers.Opener.default_compresslevel = 1
    for number in range(cases):
        random = np.random.default_rng(number)
        voxels = np.empty((side, side, slices), np.int16, order="F")
        mask = np.zeros(voxels.shape, np.uint8, order="F")
        lung = np.zeros(voxels.shape, np.uint8, order="F")
        for k in range(slices):
            lesion = lungs & ((x - 0.4) ** 2 + (y - 0.3 * np.cos(k / 20)) ** 2 < 0.02)
            voxels[..., k] = (np.where(lesion, -400, plane) + random.normal(0, 40, plane.shape)).T
            mask[..., k], lung[..., k] = lesion.T, lungs.T
        case = folder / name / f"case_{number}"
        case.mkdir(parents=True)
        for file, values in (("ct", voxels), ("infection_mask", mask), ("lung_mask", lung)):
            nib.save(nib.Nifti1Image(values, np.diag([-0.7, -0.7, 1.0, 1.0])), case / f"{file}.nii.gz")
    import_dataset(name, [folder / name])


if __name__ == "__main__":
    main()
