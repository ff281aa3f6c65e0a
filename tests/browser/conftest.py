"""A dashboard of its own and a real browser for each test; what goes wrong unseen by the user fails the test, too."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fakeruns import epoch_row, save_model
from playwright.sync_api import (
    Browser,
    BrowserContext,
    BrowserType,
    ConsoleMessage,
    Locator,
    Page,
    WebSocket,
    expect,
    sync_playwright,
)
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from covseg_core import runs
from covseg_core.config import THESIS, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Dataset
from covseg_core.data.library.importing import import_sample
from covseg_core.data.splitting.split import make_split
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.files import write_json
from covseg_core.runs.liveness import process_lives
from covseg_core.runs.time_estimate import Calibration, Measurement

FAILED = pytest.StashKey[list[bool]]()
SIZE = 64
"""Pixels of the side of a phantom's slice, and of the models' slices."""
LIMITS = (90, 110, 130)
"""Grey values above which the models of the experiment see infection: accuracy, IoU, Dice."""
APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-background-networking"]
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""WebGL by the processor, which then draws all pages that way, and takes its time for each."""
LOOKS_AROUND = r"404.*/\w+/_stcore/(health|host-config)"
"""Streamlit opened at a page other than the first asks there for its server before it asks at the top."""
PORTS = range(20_000, 32_000)
"""Of these no system gives one away unasked, as it does to whoever connects to something while a dashboard starts."""
TYPING = 300
"""Fields and sliders wait shorter than this for the next key before they tell the dashboard [ms]."""
DRAWING = 100
"""What the page is given to draw an answer that has come [ms of the browser's own clock]."""
WAIT = 60_000
"""What a user would wait for an answer at most before thinking that it hangs [ms]; two busy cores included."""


@dataclass
class Server:
    """A dashboard of the test's own folders; it can be ended and started again at the same address."""

    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            self.port = free_port()
        command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={self.port}"]
        command += ["--server.headless=true", "--server.fileWatcherType=none"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=APP.parents[1], stdout=log, stderr=subprocess.STDOUT)
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"the dashboard does not answer: {self.log.read_text()}")

    def stop(self) -> None:
        """As Ctrl+C in its terminal does."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def trouble(self) -> list[str]:
        """Bugs that the dashboard has told its terminal of."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if re.search(r"Traceback|Error:|Exception|WARNING|ERROR", line)]


def free_port() -> int:
    """One of so many that dashboards of other tests, which start at the same time, do not find the same."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


@dataclass
class Watch:
    """What a browser would only tell in its developer tools."""

    url: str
    allowed: list[str] = field(default_factory=lambda: [LOOKS_AROUND])
    """Regular expressions of what may happen in this test."""
    found: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.found.append(what)

    def look_at(self, context: BrowserContext) -> None:
        context.on("console", lambda message: message.type == "error" and self.add(_told(message)))
        context.on("weberror", lambda error: self.add(f"script: {error.error}"))
        context.on("requestfailed", lambda request: self.failed(request.url, request.failure))
        context.on("response", lambda answer: answer.status >= 400 and self.add(f"{answer.status}: {answer.url}"))
        context.on("request", lambda request: self.requested(request.url))

    def failed(self, url: str, why: str | None) -> None:
        # what was still under way when the page was left or a download began
        if why != "net::ERR_ABORTED":
            self.add(f"request: {url} {why}")

    def requested(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.url).netloc:
            self.add(f"elsewhere: {url}")

    @property
    def unexpected(self) -> list[str]:
        return [what for what in self.found if not any(re.search(pattern, what) for pattern in self.allowed)]


def _told(message: ConsoleMessage) -> str:
    return f"console: {message.text} {message.location.get('url', '')}"


def chromium() -> str | None:
    """The browser's executable, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def chromium_type() -> Iterator[BrowserType]:
    """Of a module, not of the session: Playwright's event loop must be gone before other tests make theirs."""
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Of a test, so that a browser that has crashed costs one test only."""
    with launched(request) as browser:
        yield browser


@pytest.fixture(scope="module")
def shared_browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """For tests that only run a script in it."""
    with launched(request) as browser:
        yield browser


@contextmanager
def launched(request: pytest.FixtureRequest) -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}: as root on Debian, apt-get install chromium")
    flags = [*FLAGS, *(WEBGL if "webgl" in request.fixturenames else ["--disable-gpu"])]
    browser = request.getfixturevalue("chromium_type").launch(executable_path=executable, args=flags)
    yield browser
    browser.close()


@pytest.fixture
def webgl() -> None:
    """The browser can draw volumes."""


@pytest.fixture
def untimed() -> None:
    """Nothing is known of this computer: the first form times training steps, in a process that loads TensorFlow."""


@pytest.fixture
def server(
    request: pytest.FixtureRequest, browser: Browser, tmp_path: Path, data_folder: Path, checkpoints_folder: Path
) -> Iterator[Server]:
    """A dashboard with the test's `COVSEG_DATA` and `COVSEG_CHECKPOINTS`; the trainings that it started end with it."""
    if "untimed" not in request.fixturenames:
        known = Measurement(runs.host(), "another network", 0.75e9, "CPU", 0.01, 10.0)
        data_folder.mkdir(exist_ok=True)
        write_json(data_folder / "calibration.json", Calibration((known,)))
    server = Server(tmp_path / "dashboard.log")
    server.start()
    try:
        yield server
    finally:
        end_trainings()
        server.stop()
    assert not server.trouble(), server.log.read_text()


def end_trainings() -> None:
    """They outlive the dashboard, as they should."""
    for run in runs.list_runs():
        status = run.status
        if status.state in runs.ACTIVE and status.pid and process_lives(status.process):
            os.kill(status.pid, signal.SIGKILL)


@pytest.fixture
def sample(data_folder: Path) -> Dataset:
    """Six small phantoms, as the sample data are."""
    return import_sample("sample", scans=6, size=SIZE)


@pytest.fixture
def models(sample: Dataset, checkpoints_folder: Path) -> list[runs.Run]:
    """A finished and scored experiment without a training: its models say yes where a pixel is bright."""
    split = SplitConfig(fractions=(0.4, 0.2, 0.4))
    made = []
    for metric, limit in zip(THESIS, LIMITS, strict=True):
        config = RunConfig(
            id=f"first-{metric}",
            experiment="first",
            dataset=sample.name,
            fingerprint=sample.fingerprint,
            metric=metric,
            preset="quick",
            created="2026-01-02T03:04:05.000006+00:00",
            prepare=PrepareConfig(size=SIZE),
            split=split,
        )
        run = runs.create_run(config, make_split(sample, split, config.target))
        save_model(run.onnx, limit, SIZE)
        run.write_history([epoch_row(1), epoch_row(2)])
        run.write_status(dataclasses.replace(run.status, state="finished", epoch=2, epochs=2))
        made.append(run)
    evaluate_runs(made)
    return made


@pytest.fixture
def watch(server: Server) -> Watch:
    """To name what may go wrong in a test: `watch.allowed.append(pattern)`."""
    return Watch(server.url)


class Talk:
    """Whether the dashboard still owes a page an answer.

    The page itself cannot say: it looks at rest between a click and the moment the dashboard begins to answer.
    """

    def __init__(self, page: Page) -> None:
        self.asked = True  # whoever opens a page asks for it
        self.begun = False
        self.sent = 0
        """How often the page has asked because of what its user did."""
        page.on("domcontentloaded", self._loaded)
        page.on("websocket", self._listen)

    def _loaded(self, page: Page) -> None:
        """It is at rest, too, until it begins to speak with the dashboard, which takes a busy machine a while."""
        self.asked, self.begun = True, False

    def _listen(self, socket: WebSocket) -> None:
        self.asked, self.begun = True, False
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, frame: bytes | str) -> None:
        message = _read(BackMsg(), frame)
        # a page that follows a training asks again and again, and is never done
        if message.WhichOneof("type") == "rerun_script" and not message.rerun_script.is_auto_rerun:
            self.asked, self.begun = True, False
            self.sent += 1

    def _received(self, frame: bytes | str) -> None:
        message = _read(ForwardMsg(), frame)
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.begun = True
        elif kind == "script_finished" and self.begun and message.script_finished != message.FINISHED_EARLY_FOR_RERUN:
            self.asked = False


def _read(message: Any, frame: bytes | str) -> Any:
    if isinstance(frame, bytes):
        message.ParseFromString(frame)
    return message


class User:
    """Somebody at a browser, who finds things by what is written on them."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.talk = Talk(page)
        self.main = page.get_by_test_id("stMain")

    def go(self, title: str) -> None:
        """To another page, by the navigation."""
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
        self.sees_title(title)

    def sees_title(self, title: str) -> None:
        expect(self.page.get_by_role("heading", name=title, level=1, exact=True)).to_be_visible()

    def sees(self, text: str | re.Pattern[str], timeout: float = WAIT) -> None:
        expect(self.main.get_by_text(text).first).to_be_visible(timeout=timeout)

    def click(self, name: str | re.Pattern[str]) -> None:
        """A button, once the page is at rest: a page that is being drawn can push it away from under the pointer."""
        self.settles()
        self.main.get_by_role("button", name=name).first.click()

    def choose(self, group: str, option: str) -> None:
        self.main.get_by_role("radiogroup", name=group).get_by_text(option, exact=True).click()
        self.settles()

    def pick(self, box: str, option: str) -> None:
        """From a list, once it offers that: a press of Enter before takes what it had."""
        self.main.get_by_role("combobox", name=box).fill(option)
        self.page.get_by_role("option", name=option, exact=True).click()
        self.settles()

    def tab(self, name: str) -> None:
        self.main.get_by_role("tab", name=name, exact=True).click()
        self.settles()

    def open(self, expander: str) -> None:
        self.main.get_by_test_id("stExpander").get_by_text(expander).first.click()

    def type(self, label: str, value: str | int) -> None:
        field = self.main.get_by_label(label, exact=True)
        field.fill(str(value))
        field.press("Enter")
        self.settles()

    def settles(self) -> None:
        """Until the dashboard has answered all that was asked, and the page shows it."""
        self._pause(TYPING)
        end = time.monotonic() + WAIT / 1000
        while True:
            while self.talk.asked:
                assert time.monotonic() < end, "the dashboard does not answer"
                self.page.wait_for_timeout(20)
            self._pause(DRAWING)
            if not self.talk.asked:  # what was drawn has asked for nothing more
                break
        expect(self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()

    def _pause(self, milliseconds: int) -> None:
        """By the clock of the page: what it had planned for an earlier moment is done, however slow the machine is."""
        self.page.evaluate("pause => new Promise(done => setTimeout(done, pause))", milliseconds)

    def download(self, name: str, folder: Path, menu: str = "") -> Path:
        """The file that a button gives, under its own name; the button may be in a menu, which lies over the page."""
        if menu:
            self.click(menu)
        else:
            self.settles()
        with self.page.expect_download() as coming:
            where = (self.page if menu else self.main).get_by_test_id("stDownloadButton")
            where.get_by_role("button", name=name).first.click()
        path = folder / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def send(self, *files: Path) -> None:
        """Put files, or one folder, into the page's field for uploads, once the page is there."""
        self.settles()
        self.main.locator('input[type="file"]').first.set_input_files(files[0] if len(files) == 1 else list(files))

    def slider(self, name: str) -> Locator:
        return self.main.get_by_role("slider", name=name).first

    def press(self, slider: str, key: str) -> None:
        """A key on a slider."""
        self.slider(slider).press(key)
        self.settles()

    @property
    def panels(self) -> Locator:
        """The pictures of the slice viewer, side by side."""
        return self.main.get_by_role("img", name=re.compile(r", slice \d+$"))

    def sees_pictures_of(self, names: list[str]) -> None:
        """These panels and no others, by what `shown` says."""
        expect(self.panels).to_have_count(len(names))
        for panel, name in zip(self.panels.all(), names, strict=True):
            expect(panel).to_have_attribute("alt", name)

    def shown(self) -> list[str]:
        """What these are pictures of."""
        return [image.get_attribute("alt") or "" for image in self.panels.all()]

    def pictures(self) -> list[str]:
        return [image.get_attribute("src") or "" for image in self.panels.all()]


Open = Callable[..., User]


@pytest.hookimpl(tryfirst=True)  # before pytest looks at what -m asks for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps whether the test has failed, for `visit` to know."""
    report = yield
    item.stash.setdefault(FAILED, []).append(report.failed)
    return report


@pytest.fixture
def visit(
    request: pytest.FixtureRequest, browser: Browser, server: Server, watch: Watch, tmp_path: Path
) -> Iterator[Open]:
    """`visit("compare?slice=3")`: a user with a browser of its own, whose profile is empty.

    When the test fails, what the user saw is kept in its temporary folder, as a picture and as text.
    """
    contexts: list[BrowserContext] = []

    def visit(path: str = "", **options: Any) -> User:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, "locale": "en-GB", **options})
        context.set_default_timeout(WAIT)
        contexts.append(context)
        watch.look_at(context)
        user = User(context.new_page())
        user.page.goto(f"{server.url}/{path}")
        return user

    yield visit
    exceptions = []
    for page in [page for context in contexts for page in context.pages]:
        exceptions += page.get_by_test_id("stException").all_inner_texts()
        if any(request.node.stash.get(FAILED, [])):
            seen = tmp_path / f"page-{len(list(tmp_path.glob('page-*.png')))}.png"
            page.screenshot(path=seen)
            seen.with_suffix(".txt").write_text(
                "\n".join([page.url, page.locator("body").aria_snapshot(), *watch.found])
            )
            print(f"what the user saw: {seen}")
    for context in contexts:
        context.close()
    assert not exceptions + watch.unexpected
