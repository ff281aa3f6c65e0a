"""The pictures in docs/img: every page, in light and dark, of real trainings on synthetic scans.

Makes a dataset of phantoms, trains three models with the `quick` preset and photographs the dashboard in Chromium. That
takes about ten minutes on two CPU cores; with `--folder` data and models are kept, and the next time it takes one.

    python docs/screenshots.py [--folder FOLDER] [--only compare]
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from covseg_core import runs
from covseg_core.config import THESIS
from covseg_core.data.library.datasets import list_datasets
from covseg_core.data.library.importing import import_sample
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.runs import jobs

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "img"
DATASET = "phantoms"
WIDTH = 1440
TALLEST = 2000
"""Pixels of a picture at most; what is below is cut off."""
SCANS, SIZE = 16, 192
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""For Chromium; the last two draw volumes without a graphics card."""
EPOCH = 12
"""The last training is photographed at work, after this epoch."""


def main() -> None:
    """Prepare what is to be seen, then see it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, help="where data and models are kept; without, they are removed")
    arguments.add_argument("--only", choices=list(PAGES), help="this page and no other")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="covseg-") as temporary:
        folder = options.folder or Path(temporary)
        os.environ["COVSEG_DATA"] = str(folder.absolute() / "data")
        os.environ["COVSEG_CHECKPOINTS"] = str(folder.absolute() / "checkpoints")
        if DATASET not in list_datasets():
            import_sample(DATASET, scans=SCANS, size=SIZE)
        found = sorted(runs.list_runs() or jobs.train(DATASET), key=lambda run: THESIS.index(run.config.metric))
        new_scan = folder / "new_patient.nii.gz"
        if not new_scan.exists():
            [case] = write_sample(Path(temporary) / "new", scans=1, size=SIZE, seed=7)
            shutil.copy(case / "ct.nii.gz", new_scan)
        IMAGES.mkdir(exist_ok=True)
        with dashboard() as url:
            if options.only in (None, "monitor"):
                wait_until(lambda: found[-1].status.epoch >= EPOCH, found)
                photograph(url, "monitor", new_scan)
            jobs.wait(found)
            for name in [options.only] if options.only else PAGES:
                if name != "monitor":
                    photograph(url, name, new_scan)


def photograph(url: str, name: str, new_scan: Path) -> None:
    """One page in both themes."""
    for theme in ("light", "dark"):
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
            page = browser.new_page(color_scheme=theme, locale="en-GB", viewport={"width": WIDTH, "height": 900})
            page.set_default_timeout(120_000)
            top, bottom = PAGES[name](page, url, new_scan)
            save(page, IMAGES / f"{name}-{theme}.png", top, bottom)
            browser.close()
        print(IMAGES / f"{name}-{theme}.png")


def train(page: Page, url: str, _: Path) -> tuple[str, str]:
    """Data and training, with a scan and its mask."""
    page.goto(url)
    page.get_by_role("tab", name="Preview").click()
    page.get_by_role("img", name=re.compile(r", slice \d+$")).first.wait_for()
    page.get_by_text("an epoch;").wait_for()
    return "", ""


def monitor(page: Page, url: str, _: Path) -> tuple[str, str]:
    """Live curves, while the last model trains."""
    page.goto(f"{url}/monitor")
    page.get_by_role("radiogroup", name="Run").get_by_text("IoU", exact=True).click()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.get_by_test_id("stImage").first.wait_for()
    return "", ""


def runs_table(page: Page, url: str, _: Path) -> tuple[str, str]:
    """Runs: all of them, with what the chosen ones have in common and not."""
    page.goto(f"{url}/runs")
    page.get_by_role("textbox", name="Search").fill(DATASET)
    page.get_by_role("textbox", name="Search").press("Enter")
    page.get_by_role("button", name=re.compile("^Choose all")).click()
    page.get_by_role("button", name="Export").wait_for()
    return "", ""


def compare(page: Page, url: str, _: Path) -> tuple[str, str]:
    """Compare: the summary."""
    page.goto(f"{url}/compare")
    page.get_by_role("img", name=re.compile(r", slice \d+$")).first.wait_for()
    return "", ""


def slices(page: Page, url: str, _: Path) -> tuple[str, str]:
    """Compare: the slice viewer."""
    page.goto(f"{url}/compare?tab=Slices")
    page.get_by_role("img", name=re.compile(r", slice \d+$")).first.wait_for()
    page.get_by_role("button", name="Most disagreed").click()
    page.get_by_text("Most disagreed, 1 of").wait_for()
    return "Slices", ""


def volume(page: Page, url: str, _: Path) -> tuple[str, str]:
    """Compare: the same as a volume."""
    page.goto(f"{url}/compare?tab=Slices")
    page.get_by_role("radiogroup", name="View").get_by_text("Volume").click()
    viewer = page.get_by_role("application", name="Volume viewer")
    viewer.and_(page.locator('[data-state="ready"][data-masks="ready"]')).wait_for()
    page.wait_for_timeout(3000)  # 3D is drawn last
    return "", ""


def predict(page: Page, url: str, new_scan: Path) -> tuple[str, str]:
    """Quick prediction of a scan that no model has seen."""
    page.goto(f"{url}/predict")
    page.locator('input[type="file"]').set_input_files(new_scan)
    page.get_by_role("button", name="Another scan").wait_for()
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("img", name=re.compile(r", slice \d+$")).first.wait_for()
    return "", ""


PAGES: dict[str, Callable[[Page, str, Path], tuple[str, str]]] = {
    "train": train,
    "monitor": monitor,
    "runs": runs_table,
    "compare": compare,
    "slices": slices,
    "volume": volume,
    "predict": predict,
}


def save(page: Page, path: Path, top: str, bottom: str) -> None:
    """The page from one heading to another (from its beginning, to its end), with at most 256 colours."""
    page.mouse.move(0, 0)
    main = page.get_by_test_id("stMain")
    page.set_viewport_size({"width": WIDTH, "height": int(main.evaluate("node => node.scrollHeight"))})
    settle(page)
    height = int(main.evaluate("node => node.scrollHeight"))
    page.set_viewport_size({"width": WIDTH, "height": height})
    settle(page)
    content = page.get_by_test_id("stMainBlockContainer").locator("> div").first.bounding_box()
    assert content is not None
    start = edge(page, top) - 24 if top else 0.0
    end = edge(page, bottom) - 8 if bottom else content["y"] + content["height"] + 24
    end = min(end, start + TALLEST, height)
    clip = {"x": 0, "y": start, "width": WIDTH, "height": end - start}
    if top:  # the navigation is not beside it any more
        left = content["x"] - 40
        clip |= {"x": left, "width": WIDTH - left}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip)))  # type: ignore[arg-type]
    few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, kmeans=4, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def edge(page: Page, heading: str) -> float:
    """Where a heading begins, from the top of the page [px]."""
    box = page.get_by_role("heading", name=heading, exact=True).bounding_box()
    assert box is not None
    return box["y"]


def settle(page: Page) -> None:
    """Until the page has answered and has drawn what it got."""
    page.wait_for_timeout(500)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_function("() => document.querySelectorAll('[data-testid=\"stSkeleton\"]').length == 0")
    page.wait_for_timeout(1000)


@contextmanager
def dashboard() -> Iterator[str]:
    """Address of a dashboard on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", f"--server.port={port}"]
    command += ["--server.headless=true", "--server.fileWatcherType=none"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url), [])
        yield url
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], training: list[runs.Run]) -> None:
    """Looks each second; gives up when a training has failed."""
    while not condition():
        if failed := [run.id for run in training if run.status.state in ("failed", "lost", "stopped")]:
            raise SystemExit(f"not trained: {', '.join(failed)}")
        time.sleep(1)


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SystemExit("no Chromium here: apt-get install chromium")


if __name__ == "__main__":
    main()
