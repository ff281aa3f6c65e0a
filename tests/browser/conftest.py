"""A dashboard of its own and a real browser for each test; what goes wrong unseen by the user fails the test, too."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-background-networking"]
WAIT = 30_000
"""What a user would wait for an answer at most before thinking that it hangs [ms]; two busy cores included."""


@dataclass
class Server:
    """A dashboard with folders of its own; it can be ended and started again at the same address."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "dashboard.log"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={self.port}"]
        command += ["--server.headless=true", "--server.fileWatcherType=none"]
        own = {"COVSEG_DATA": str(self.data), "COVSEG_CHECKPOINTS": str(self.checkpoints)}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=APP.parents[1], env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT
            )
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

    def end_trainings(self) -> None:
        """Those that outlive the dashboard, as they should."""
        from covseg_core import runs

        for config in self.checkpoints.glob("*/config.json"):
            status = runs.Run(config.parent).status
            if status.state in runs.ACTIVE and status.pid and psutil.pid_exists(status.pid):
                worker = psutil.Process(status.pid)
                if abs(worker.create_time() - (status.pid_started or 0)) < 2:
                    worker.kill()

    def trouble(self) -> list[str]:
        """Bugs that the dashboard has told its terminal of."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if re.search(r"Traceback|Error:|Exception|WARNING|ERROR", line)]


@dataclass
class Watch:
    """What a browser would only tell in its developer tools."""

    url: str
    allowed: list[str] = field(default_factory=list)
    """Regular expressions of what may happen in this test."""
    found: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.found.append(what)

    def look_at(self, context: BrowserContext) -> None:
        context.on("console", lambda message: message.type == "error" and self.add(f"console: {message.text}"))
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


def chromium() -> str | None:
    """The browser's executable, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of a module, not of the session: Playwright's event loop must be gone before other tests make theirs."""
    executable = chromium()
    if executable is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}: as root on Debian, apt-get install chromium")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def server(browser: Browser, tmp_path: Path) -> Iterator[Server]:
    """A dashboard that was never started before."""
    server = Server(tmp_path / "server")
    yield from running(server)


def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.end_trainings()
        server.stop()
    assert not server.trouble(), server.log.read_text()


@pytest.fixture
def watch(server: Server) -> Watch:
    """To name what may go wrong in a test: `watch.allowed.append(pattern)`."""
    return Watch(server.url)


class User:
    """Somebody at a browser, who finds things by what is written on them."""

    def __init__(self, page: Page) -> None:
        self.page = page
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
        self.main.get_by_role("button", name=name).first.click()

    def type(self, label: str, value: str | int) -> None:
        field = self.main.get_by_label(label, exact=True)
        field.fill(str(value))
        field.press("Enter")
        self.settles()

    def settles(self) -> None:
        """Until the page has answered."""
        self.page.wait_for_timeout(100)
        expect(self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()

    def download(self, name: str, folder: Path) -> Path:
        """The file that a button gives, under its own name."""
        with self.page.expect_download() as coming:
            self.click(name)
        path = folder / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def slices(self) -> list[str]:
        """The pictures of the viewer as they are now."""
        return self.main.get_by_test_id("stImage").locator("img").evaluate_all("all => all.map(image => image.src)")


Open = Callable[..., User]


@pytest.fixture
def visit(browser: Browser, server: Server, watch: Watch) -> Iterator[Open]:
    """`visit("compare?z=3")`: a user with a browser of its own, whose profile is empty."""
    contexts: list[BrowserContext] = []

    def visit(path: str = "", **options: Any) -> User:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, "locale": "en-GB", **options})
        context.set_default_timeout(WAIT)
        contexts.append(context)
        watch.look_at(context)
        page = context.new_page()
        page.goto(f"{server.url}/{path}")
        return User(page)

    yield visit
    exceptions = []
    for context in contexts:
        for page in context.pages:
            exceptions += page.get_by_test_id("stException").all_inner_texts()
        context.close()
    assert not exceptions + watch.unexpected
