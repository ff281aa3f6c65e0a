"""Twenty people at once, who open pages, look, and leave: for an hour."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

from campaigns.row import TESTS, Row, environment
from campaigns.trainings import DATASET, import_phantoms
from covseg_core.data.library.datasets import load_dataset
from covseg_core.paths import data_root

WHAT = (
    "a session opens a page, waits for all of it, looks for a while and leaves, twenty at the same time: every page is"
)
WHAT += " answered whole, no traceback, memory and descriptors of the server stay"
FULL, SMALL, SECONDS, TRAINS = 12_000, 60, 2 * 3600, False

TOGETHER = 20
PATIENCE = 60.0
"""Seconds for a page."""
GROWS = (250e6, 3 * 128 + 60)
"""Bytes and descriptors that the server may gain after each of its pages was opened twice. Streamlit keeps up to 128
sessions that have left, in case they come back, each with three descriptors."""
TROUBLE = re.compile(r"Traceback|Error:|ERROR")


def run(count: int, seed: int) -> Row:
    """Against a dashboard of its own."""
    row = Row()
    import_phantoms()
    log = data_root() / "dashboard.log"
    with dashboard(log) as (port, server):
        places = _places()
        asyncio.run(_sessions(port, places * 2, Row(), random.Random(seed)))
        before = server.memory_info().rss, server.num_fds()
        started = time.monotonic()
        chance = random.Random(seed)
        asyncio.run(_sessions(port, chance.choices(places, k=count), row, chance))
        seconds = time.monotonic() - started
        grown, more = server.memory_info().rss - before[0], server.num_fds() - before[1]
    if grown > GROWS[0] or more > GROWS[1]:
        row.failures.append(f"the server has grown by {grown / 1e6:,.0f} MB and {more} descriptors")
    trouble = [line for line in log.read_text(errors="replace").splitlines() if TROUBLE.search(line)]
    row.failures += [f"the dashboard said: {line[:300]}" for line in trouble[:5]]
    row.note = f"{count / max(seconds, 1e-9):.1f} pages a second; {grown / 1e6:+,.0f} MB, {more:+d} descriptors"
    return row


def _places() -> list[tuple[str, dict[str, str]]]:
    """Pages with what stands in their links."""
    case = load_dataset(DATASET).cases[0].id
    nothing = [(page, {}) for page in ("", "monitor", "compare", "predict")]
    return [*nothing, ("", {"dataset": DATASET}), ("predict", {"dataset": DATASET, "case": case}),
            ("compare", {"experiment": "no-such"}), ("predict", {"case": "../../etc", "z": "-1"})]  # fmt: skip


async def _sessions(port: int, places: list[tuple[str, dict[str, str]]], row: Row, chance: random.Random) -> None:
    """So many at a time until all were opened."""
    waiting = list(enumerate(places))
    looks = [chance.uniform(0, 0.5) for _ in places]

    async def one_after_another() -> None:
        while waiting:
            number, (page, query) = waiting.pop()
            error = ""
            try:
                async with asyncio.timeout(PATIENCE):
                    await open_page(port, page, urlencode(query), looks[number])
            except TimeoutError:
                error = f"not answered after {PATIENCE:.0f} s"
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"
            row.count += 1
            if error:
                row.failures.append(f"session {number}, page {page or 'first'} {query}: {error}"[:500])

    await asyncio.gather(*(one_after_another() for _ in range(TOGETHER)))


async def open_page(port: int, page: str, query: str, look: float) -> None:
    """As a browser does it: connect, ask for the page, take every message until it is whole."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    async with connect(address, subprotocols=["streamlit"], max_size=None) as connection:  # type: ignore[list-item]
        state = ClientState(query_string=query, page_name=page)
        await connection.send(BackMsg(rerun_script=state).SerializeToString())
        async for data in connection:
            message = ForwardMsg.FromString(data)  # type: ignore[arg-type]
            kind = message.WhichOneof("type")
            if kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
                raise AssertionError(f"the page shows {message.delta.new_element.exception.message}")
            if kind == "script_finished":
                await asyncio.sleep(look)
                return
        raise ConnectionError("closed before the page was whole")


@contextmanager
def dashboard(log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", f"--server.port={port}"]
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [*command, "--server.headless=true", "--server.fileWatcherType=none"],
            cwd=TESTS.parent, env=environment(**os.environ), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield port, psutil.Process(server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
