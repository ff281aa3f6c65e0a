"""A dashboard of its own and a real browser for each test. Whatever goes wrong unseen by the user fails the test, too."""

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


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, server: Server, watch: Watch) -> Iterator[Open]:
    """`open_page("compare?z=3")`: a page in a browser of its own, with an empty profile."""
    contexts = []

    def open_(path: str = "", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, "locale": "en-GB", **options})
        context.set_default_timeout(WAIT)
        contexts.append(context)
        watch.look_at(context)
        page = context.new_page()
        page.goto(f"{server.url}/{path}")
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            assert page.get_by_test_id("stException").count() == 0, page.get_by_test_id("stException").first.inner_text()
        context.close()
    assert not watch.unexpected, "\n".join(watch.unexpected)
