"""Every text of the dashboard, seen in a browser. What a user loses otherwise: words that nobody has ever looked at."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakeruns import fake_run, save_model
from playwright.sync_api import WebSocket, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from texts_of_source import flat, texts
from texts_unseen import UNSEEN

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.importing import import_sample
from covseg_core.data.library.reviews import add_review
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.runs import Run, open_run
from covseg_core.runs.liveness import host, this_process

if TYPE_CHECKING:
    from .conftest import Open, User

SIZE = 64
THEMES = ("light", "dark")
IN_THEME = {
    theme: "() => (getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/\\d+/)[0] < 128) "
    f"=== {dark}"
    for theme, dark in zip(THEMES, ("false", "true"), strict=True)
}
"""Whether the page has come to this theme."""
FADING = 250
"""What colours take to go over into those of the other theme, and more [ms]."""
LOOKS = 12
"""Before something is called faint: a busy machine takes its time."""
READ = """
() => [document.body.innerText, document.title,
       ...[...document.querySelectorAll("input, textarea")].map(node => node.value),
       ...[...document.querySelectorAll("svg text")].map(node => node.textContent),
       ...[...document.querySelectorAll("[placeholder], [alt], [aria-label]")].flatMap(
          node => ["placeholder", "alt", "aria-label"].map(name => node.getAttribute(name) || "")),
      ].join("\\n")
"""
"""All that the page shows, and what it says to those who do not see it."""
FAINT = """
() => {
  const ELSEWHERE = "svg, canvas, script, style, :disabled, [aria-disabled=true]"
    + ", [data-testid=stSlider], [data-testid=stIconMaterial]"
  const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number)
  const light = colour => {
    const linear = share => share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    const [r, g, b] = numbers(colour).map(value => linear(value / 255))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const over = (top, bottom) => {
    const [a, b] = [numbers(top), numbers(bottom)], share = a.length > 3 ? a[3] : 1
    return `rgb(${[0, 1, 2].map(k => a[k] * share + b[k] * (1 - share)).join()})`
  }
  const ground = node => {
    if (!node) return "rgb(255, 255, 255)"
    const own = getComputedStyle(node).backgroundColor, parts = numbers(own)
    return parts.length > 3 && parts[3] === 0 ? ground(node.parentElement) : over(own, ground(node.parentElement))
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = []
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim()
    if (!text || !node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue
    if (node.closest(ELSEWHERE)) continue
    const below = ground(node), colour = over(getComputedStyle(node).color, below)
    const [a, b] = [light(colour), light(below)].sort((x, y) => y - x)
    if ((a + 0.05) / (b + 0.05) < CONTRAST) found.push(`${text.slice(0, 60)}: ${colour} on ${below}`)
  }
  return found
}
"""
CONTRAST = 3.0
"""Of a text with what is behind it: below, WCAG calls even large letters unreadable."""


class Eyes:
    """What a user has seen so far, in both themes, and what was hard to read."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.seen: dict[str, str] = dict.fromkeys(THEMES, "")
        self.faint: set[str] = set()
        self.themes = list(THEMES)[::-1]
        self.sent: set[str] = set()
        """Tables, which are drawn on a canvas, and help, which stands under the pointer: as the browser got them."""
        user.page.on("websocket", self._listen)

    def look(self) -> None:
        """At the page as it is, once it is at rest and its text stays the same: a busy browser draws late."""
        self.user.settles()
        before = ""
        for _ in range(LOOKS):
            now = self.user.page.evaluate(READ)
            if now == before:
                break
            before = now
            self.user.page.wait_for_timeout(FADING)
        self.themes.reverse()  # so that each look begins in the theme that the last has ended in
        for theme in self.themes:
            self.user.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            self.user.page.wait_for_function(IN_THEME[theme])
            self.user.page.wait_for_timeout(FADING)
            self.seen[theme] += "\n" + flat(self.user.page.evaluate(READ))
            self.faint |= {f"{theme}: {text}" for text in self._faint()}

    def _faint(self) -> list[str]:
        """What is hard to read, and is not only on its way from one theme to the other."""
        for _ in range(LOOKS):
            found: list[str] = self.user.page.evaluate(FAINT.replace("CONTRAST", str(CONTRAST)))
            if not found:
                break
            self.user.page.wait_for_timeout(FADING)
        return found

    def unseen(self, text: str) -> list[str]:
        """Themes in which this was not shown."""
        told = any(text in each for each in self.sent)
        return [] if told else [theme for theme in THEMES if text not in self.seen[theme]]

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._received)

    def _received(self, frame: bytes | str) -> None:
        message = ForwardMsg()
        if isinstance(frame, bytes):
            message.ParseFromString(frame)
        if message.WhichOneof("type") == "delta":
            self.sent |= {flat(text) for text in _told(message.delta)}


def _told(message: Any) -> Iterator[str]:
    """Help, and what stands in tables."""
    for field, value in message.ListFields():
        if field.name == "help":
            yield re.sub(r"[*`]", "", value)
        elif field.name == "data" and isinstance(value, bytes):
            yield value.decode("utf-8", "ignore")
        elif field.name == "columns" and isinstance(value, str):
            yield value
        elif field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                if hasattr(each, "ListFields"):
                    yield from _told(each)


@pytest.mark.usefixtures("webgl")
@pytest.mark.timeout(1200)
def test_every_text_is_seen_in_light_and_dark(
    visit: Open, request: pytest.FixtureRequest, tmp_path: Path, checkpoints_folder: Path
) -> None:
    """A text that no state of any page shows is dead, or nobody has ever checked that it can be read."""
    user = visit()
    eyes = Eyes(user)
    user.page.reload()
    for title in ("Live curves", "Runs", "Compare", "Quick prediction", "Review", "Data and training"):
        user.go(title)
        eyes.look()
    models: list[Run] = request.getfixturevalue("models")
    add_runs(request.getfixturevalue("sample"), models)
    import_sample("other", scans=3, size=SIZE)
    for see in (see_training, see_review, see_runs, see_curves, see_comparison, see_prediction, see_cohort):
        see(eyes, models, tmp_path)
    source = texts()
    excused = {text for each in UNSEEN.values() for text in each}
    assert not excused - source.keys(), "these are not in the source any more"
    assert not eyes.faint
    never = [f"{text} ({file})" for text, file in source.items() if text not in excused and eyes.unseen(text)]
    assert not never, "\n".join(never)


def add_runs(sample: Dataset, models: list[Run]) -> None:
    """A lung model, and the same experiment split by slice."""
    split = models[0].config.split
    fake_run(sample, "lung", "dice", split, 60.0, target="lung")
    leaky = []
    for run in models:
        like = {"prepare": run.config.prepare, "experiment": "leaky"}
        leaky.append(
            fake_run(sample, f"leaky-{run.id}", run.config.metric, dataclasses.replace(split, kind="slice"), 0, **like)
        )
        save_model(leaky[-1].onnx, 110, SIZE)
    evaluate_runs(leaky)


def visit(user: User, path: str) -> None:
    """By a link, as in a window that is opened anew."""
    user.page.goto(re.sub("(:[0-9]+/).*", rf"\1{path}", user.page.url))


def see_training(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    visit(user, f"?again={models[0].id}")
    user.open("More settings")
    user.open("Add data")
    eyes.look()
    user.tab("Public data set")
    eyes.look()
    user.tab("Sample data")
    eyes.look()
    user.tab("Upload scans and masks")
    write_sample(folder / "more", scans=2, size=64, slices=12)
    user.send(folder / "more")
    user.sees("received")
    user.open("Options")
    eyes.look()
    user.type("Name of the dataset", "sample")
    eyes.look()
    user.click("Discard")
    user.tab("Preview")
    eyes.look()
    (models[0].folder.parent / "places.toml").write_text("[cluster]\n")
    user.choose("Split", "By slice (leaks)")
    eyes.look()
    user.open("More settings")
    user.type("Folds", 2)
    eyes.look()
    user.click("Delete")
    eyes.look()
    user.page.keyboard.press("Escape")


def see_review(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    visit(user, "review?dataset=sample")
    eyes.look()
    user.pick("Order", "By name")
    eyes.look()
    user.type("Your name", "Ada")
    user.click(re.compile("^Fair"))
    user.click(re.compile("^Accept"))
    eyes.look()
    user.click(re.compile("^Reject"))
    user.open("Readers")
    eyes.look()
    add_review("sample", load_dataset("sample").cases[0].id, "rejected", "Bob", grade=1)
    user.go("Data and training")
    eyes.look()
    add_review("sample", load_dataset("sample").cases[0].id, "accepted", "Ada", grade=2)
    user.go("Review")
    user.settles()
    if not user.main.get_by_text("Download all reviews").is_visible():
        user.open("Readers")
    eyes.look()
    visit(user, f"review?dataset=other&case={load_dataset('other').cases[0].id}")
    user.type("Your name", "Ada")
    user.open("Correct in another program")
    eyes.look()
    user.click(re.compile("^Correct Shortcut"))
    viewer = user.main.get_by_role("application", name="Volume viewer")
    expect(viewer).to_have_attribute("data-edit", "ready")
    eyes.look()
    viewer.press("2")
    viewer.scroll_into_view_if_needed()
    box = viewer.locator("canvas").bounding_box()
    assert box is not None
    for down in (0.2, 0.25):
        user.page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + down * box["height"])
        user.page.mouse.down()
        user.page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + down * box["height"], steps=8)
        user.page.mouse.up()
    viewer.get_by_role("button", name="Done").click()
    user.sees(re.compile(r"voxels added"))
    eyes.look()
    user.click("Save revision")
    user.sees(re.compile("Revision 2 of"))
    eyes.look()
    user.click(re.compile("^Bring back"))
    user.sees(re.compile("counts again"))
    eyes.look()
    user.go("Data and training")
    eyes.look()


def see_runs(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    user.go("Runs")
    eyes.look()
    user.type("Search", "leaky-first-dice")
    user.click("Choose all 1")
    eyes.look()
    user.type("Search", "first")
    user.click("Choose all 6")
    user.open("Settings against score")
    user.click("Export")
    eyes.look()
    user.page.keyboard.press("Escape")
    user.click("Delete")
    eyes.look()
    user.page.keyboard.press("Escape")
    user.choose("Rows", "Experiments")
    eyes.look()
    user.type("Search", "nothing of this kind")
    eyes.look()
    user.type("Search", "")


def see_curves(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    first, second, third = models
    before = [run.status for run in models]
    first.write_status(dataclasses.replace(before[0], state="failed", reason="it went wrong"))
    second.write_status(dataclasses.replace(before[1], state="stopped", epoch=1))
    third.write_status(dataclasses.replace(before[2], state="running", process=this_process(), host=host()))
    other = open_run("leaky-first-dice")
    other.write_status(dataclasses.replace(before[2], state="queued", process=this_process(), host=host()))
    user.go("Live curves")
    eyes.look()
    user.click("Delete")
    eyes.look()
    user.page.keyboard.press("Escape")
    user.go("Runs")
    eyes.look()
    other.write_status(before[2])
    user.go("Live curves")
    user.settles()
    for run, status in zip(models, before, strict=True):
        run.write_status(status)
    user.sees("Training ended")
    eyes.look()


def see_comparison(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    visit(user, "compare?runs=gone")
    eyes.look()
    visit(user, f"compare?runs={models[0].id}&tab=Statistics")
    eyes.look()
    user.main.get_by_role("button", name=re.compile("^Remove")).first.click()
    eyes.look()
    visit(user, f"compare?runs={','.join(run.id for run in models)}")
    user.main.get_by_role("radiogroup", name="Scores taken together").get_by_text("Mean over").first.click()
    eyes.look()
    user.tab("Slices")
    user.open("All ")
    eyes.look()
    for jump in ("Worst slice", "Most disagreed"):
        user.click(jump)
        eyes.look()
    user.tab("Statistics")
    user.click("How this was tested")
    eyes.look()
    user.page.keyboard.press("Escape")
    user.open("Other sources")
    user.open("Leakage meter")
    eyes.look()
    user.click("Measure the leak")
    user.sees("The split by slice")
    eyes.look()
    user.tab("Failures")
    user.open("Masks that the models doubt")
    user.open("What if")
    user.open("Calibration")
    user.main.get_by_text(re.compile("^Choose on . validation")).click()
    user.click("Choose on validation")
    user.sees("Back to 0.5")
    eyes.look()
    for kind in ("False alarms", "Wrong boundaries", "Small lesions"):
        user.main.get_by_role("radiogroup", name="What went wrong").get_by_text(kind).click()
        eyes.look()
    user.tab("Export")
    eyes.look()


def see_prediction(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    visit(user, "predict?scan=gone")
    eyes.look()
    visit(user, "predict?dataset=gone&case=gone")
    user.choose("Where it is", "Upload a folder")
    eyes.look()
    user.choose("Where it is", "From a dataset")
    eyes.look()
    user.click("About these models")
    eyes.look()
    user.page.keyboard.press("Escape")
    user.click("Take this scan")
    user.settles()
    user.open("More about this scan")
    eyes.look()
    user.click("Predict")
    user.sees("3. Mask")
    user.click("More files")
    eyes.look()
    user.page.keyboard.press("Escape")
    user.main.get_by_text("Mirror images too").click()
    eyes.look()
    user.click("Predict")
    user.sees("Each slice was shown to the models mirrored")
    user.main.get_by_test_id("stMultiSelect").get_by_role("button", name="Clear").first.click()
    eyes.look()


def see_cohort(eyes: Eyes, models: list[Run], folder: Path) -> None:
    user = eyes.user
    visit(user, "predict")
    user.choose("What to predict", "Cohort")
    eyes.look()
    scans = folder / "cohort"
    scans.mkdir()
    sample = load_dataset("sample")
    for case in sample.cases[:2]:
        shutil.copy(sample.path(case, "scan"), scans / f"{case.id}.nii.gz")
    (scans / "broken.nii.gz").write_bytes(b"nothing")
    packed = shutil.make_archive(str(folder / "scans"), "zip", scans)
    user.send(Path(packed))
    user.sees("1 file uploaded")
    eyes.look()
    user.click("Predict all")
    user.sees("Choose a row, at its left end")
    eyes.look()
    canvas = user.main.get_by_test_id("data-grid-canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    user.page.mouse.click(box["x"] + 20, box["y"] + 90)  # the second row: the first is the broken one
    eyes.look()
    user.open("Review and correct the masks")
    user.type("Name of the dataset", "sample")
    eyes.look()
    user.click("Make the dataset")
    user.sees("exists already")
    user.type("Name of the dataset", "seen")
    user.click("Make the dataset")
    user.sees("Dataset seen is ready")
    eyes.look()
    user.main.get_by_role("link", name="Review its masks").click()
    user.sees_title("Review")
    eyes.look()
    visit(user, "?dataset=seen")
    eyes.look()
