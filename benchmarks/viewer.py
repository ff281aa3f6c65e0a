"""The slice viewer in a browser: from an arrow key on the slice slider to the new picture of every panel, decoded.

A scan of 512 x 512 x 300 with its true mask and three models' probabilities (256 x 256), through the dashboard's own
viewer, Streamlit and Chromium on this computer. Times are taken in the page, from the key's event until all images have
a new source and `HTMLImageElement.decode` has ended.

    python benchmarks/viewer.py [--steps 60] [--size 512] [--slices 300] [--chromium /usr/bin/chromium]
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
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from covseg_core import runs
from covseg_core.config import PRESETS, THESIS, RunConfig, SplitConfig
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.splitting.split import Split
from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.results import Evaluation, OwnScore
from covseg_core.evaluation.scores import Scores, SliceScore
from covseg_core.files import write_json

ROOT = Path(__file__).resolve().parent.parent
PAGE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import streamlit as st
st.set_page_config(layout="wide")
from covseg_core import runs
from covseg_core.data.library import datasets
from covseg_core.evaluation.model import single_runs
from dashboard.components import slice_viewer
dataset = datasets.load_dataset("bench")
slice_viewer.show(slice_viewer.scene_of_case(dataset, dataset.cases[0], single_runs(runs.list_runs())), "bench")
"""
IMAGES = "[...document.querySelectorAll('img[src^=\"data:image/jpeg\"]')]"
STEP = f"""
() => new Promise(done => {{
    const before = {IMAGES}.map(image => image.src);
    window.addEventListener('keydown', event => {{
        const look = () => {{
            const now = {IMAGES};
            if (now.length == before.length && now.every((image, i) => image.src != before[i] && image.complete))
                Promise.all(now.map(image => image.decode())).then(() => done(performance.now() - event.timeStamp));
            else
                setTimeout(look, 1);
        }};
        look();
    }}, {{capture: true, once: true}});
}})
"""


def main() -> None:
    """Make the scan in a folder that is removed afterwards, serve it, move the slider, print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=60)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--slices", type=int, default=300)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        os.environ["COVSEG_DATA"] = str(Path(folder, "data"))
        os.environ["COVSEG_CHECKPOINTS"] = str(Path(folder, "checkpoints"))
        make(Path(folder), options.size, options.slices)
        script = Path(folder, "page.py")
        script.write_text(PAGE)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.headless=true"]
        quiet = ["--server.fileWatcherType=none", f"--server.port={port}"]
        server = subprocess.Popen([*command, *quiet], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            table = measure(f"http://127.0.0.1:{port}", psutil.Process(server.pid), options)
        finally:
            server.terminate()
            server.wait()
    Console(width=120).print(table)


def measure(url: str, server: psutil.Process, options: argparse.Namespace) -> Table:
    """Single steps, and a key held down."""
    wait_for(url)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url)
        page.wait_for_selector('img[src^="data:image/jpeg"]', timeout=120_000)
        page.wait_for_timeout(1000)
        page.get_by_role("slider", name="Slice").focus()
        steps(page, 10, "ArrowRight")
        before = cpu_seconds(server)
        milliseconds, memory = steps(page, options.steps, "ArrowRight"), server.memory_info().rss
        cpu = [1000 * (after - start) / options.steps for after, start in zip(cpu_seconds(server), before, strict=True)]
        steps(page, options.steps, "ArrowLeft")  # the same slices: mapped files count as memory when they are read
        grown = (server.memory_info().rss - memory) / 2**20
        sizes = page.evaluate(f"{IMAGES}.map(image => image.src.length)")
        browser.close()
    title = (
        f"slice viewer, {options.size} x {options.size} x {options.slices}, {len(sizes)} panels, {options.steps} steps"
    )
    table = Table("figure", "measured", "goal", title=title)
    table.add_row("slider event to new picture, median", f"{np.median(milliseconds):.0f} ms", "under 150 ms")
    low, high = np.percentile(milliseconds, [10, 90])
    table.add_row("10th and 90th percentile", f"{low:.0f} and {high:.0f} ms", "")
    table.add_row("CPU time a step, server and browser", f"{cpu[0]:.0f} and {cpu[1]:.0f} ms", "")
    table.add_row("sent for a slice", f"{sum(sizes) / 1000:.0f} kB", "")
    table.add_row(f"server memory after {options.steps} steps more", f"{grown:+.1f} MB", "")
    table.add_row("load of this machine (1 min), cores", f"{os.getloadavg()[0]:.1f}, {os.cpu_count()}", "")
    return table


def cpu_seconds(server: psutil.Process) -> tuple[float, float]:
    """CPU time so far, which depends little on what else runs: of the server, and of the browser with its driver."""
    browser = [child for child in psutil.Process().children(recursive=True) if child.pid != server.pid]
    seconds = [sum(process.cpu_times()[:2]) for process in (server, *browser)]
    return seconds[0], sum(seconds[1:])


def steps(page: Page, count: int, key: str) -> list[float]:
    """Milliseconds of each step to the next slice."""
    taken = []
    for _ in range(count):
        page.evaluate(f"window.step = ({STEP})(); null")
        page.keyboard.press(key)
        taken.append(page.evaluate("window.step"))
        page.wait_for_timeout(30)
    return taken


def wait_for(url: str) -> None:
    """Until the server answers."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(url + "/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the dashboard did not start")


def make(folder: Path, size: int, slices: int) -> None:
    """A dataset of one scan, and three runs with predictions for all of its slices."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    lungs = (np.abs(x) - 0.4) ** 2 / 0.08 + y**2 / 0.25 < 1
    plane = np.where(lungs, -800, np.where(body, 40, -1000)).astype(np.int16)
    random = np.random.default_rng(0)
    voxels = np.empty((size, size, slices), np.int16, order="F")
    mask = np.zeros(voxels.shape, np.uint8, order="F")
    for k in range(slices):
        lesion = lungs & ((x - 0.4) ** 2 + (y - 0.3 * np.cos(k / 20)) ** 2 < 0.02)
        noisy = np.where(lesion, -400, plane) + random.normal(0, 40, plane.shape)
        voxels[..., k], mask[..., k] = noisy.T, lesion.T
    nib.openers.Opener.default_compresslevel = 1
    case = folder / "files" / "case_1"
    case.mkdir(parents=True)
    for name, values in (("ct", voxels), ("infection_mask", mask)):
        nib.save(nib.Nifti1Image(values, np.diag([-0.7, -0.7, 1.0, 1.0])), case / f"{name}.nii.gz")
    dataset = import_dataset("bench", [folder / "files"])
    made = dataset.cases[0]
    side = PRESETS["standard"].prepare.size
    for turn, metric in enumerate(THESIS):
        config = RunConfig(
            id=f"bench-{metric}",
            experiment="bench",
            dataset="bench",
            fingerprint=dataset.fingerprint,
            metric=metric,
            preset="standard",
            created="2026-01-01T00:00:00.000000+00:00",
            prepare=PRESETS["standard"].prepare,
        )
        zs = tuple(range(slices))
        run = runs.create_run(config, Split(SplitConfig(), {}, {}, {made.id: zs}))
        probabilities = np.empty((slices, side, side), np.float16)
        v, u = np.meshgrid(*(np.linspace(-1, 1, side),) * 2, indexing="ij")
        for z in zs:
            distance = (u + 0.4) ** 2 + (v + 0.3 * np.cos(z / 20)) ** 2
            probabilities[z] = np.clip(0.5 - 50 * (distance - 0.015 - 0.003 * turn), 0, 1)
        np.save(run.test_predictions, probabilities)
        scores = tuple(SliceScore(made.id, z, made.patient, Counts(), {}) for z in zs)
        write_json(run.evaluation, evaluation(config, Scores("model", "", {}, {}, {}, (), scores), slices))


def evaluation(config: RunConfig, scores: Scores, slices: int) -> Evaluation:
    """As little of one as the viewer needs: which row of the predictions is which slice."""
    return Evaluation(
        version=1,
        created=config.created,
        run=config.id,
        metric=config.metric,
        model_sha256="",
        target=config.target,
        dataset=config.dataset,
        fingerprint=config.fingerprint,
        part="test",
        split="patient",
        leaky=False,
        seen_patients=(),
        policy="nan",
        threshold=0.5,
        slices=slices,
        positive_slices=slices,
        scans=1,
        patients=1,
        spacing_known=True,
        units={},
        own=OwnScore("", None, 0.0),
        training_seconds=0.0,
        epochs=0,
        model=scores,
        baselines=(),
        predictions="test_predictions.npy",
        notes=(),
    )


if __name__ == "__main__":
    main()
