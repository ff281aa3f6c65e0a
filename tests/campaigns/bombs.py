"""Files of a few MB that ask for gigabytes or minutes, read as the dashboard reads what is uploaded."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path

import psutil
from bombs import BOMBS

from campaigns.row import Row
from covseg_core.data.library.importing import import_dataset
from covseg_core.errors import CovsegError
from covseg_core.isolation import Limits, isolated, size_of
from covseg_core.prediction.scan import read_scan
from covseg_core.temporary import temporary_root

WHAT = "a file that asks for gigabytes or minutes is opened or imported: one line, at most 100 MB in this process,"
WHAT += " 1.5 GB and 20 s of processor time in the other, nothing left on disk"
FULL, SMALL, SECONDS, TRAINS = 200, 10, 3600, False
HERE = 100e6
"""Bytes that this process may grow by."""


def run(count: int, seed: int) -> Row:
    """All kinds in turns."""
    chance, row = random.Random(seed), Row()
    longest, before = 0.0, psutil.Process().memory_info().rss
    names = list(BOMBS)
    with tempfile.TemporaryDirectory(prefix="covseg-bombs-") as folder:
        for number in range(count):
            name, way = names[number % len(names)], chance.choice(["open", "import"])
            started = time.monotonic()
            row.attempt(f"bomb {number}, {name}, {way}", lambda name=name, way=way: _one(Path(folder), name, way))  # type: ignore[misc]
            longest = max(longest, time.monotonic() - started)
        row.attempt("all of them", lambda: _small(before))
        row.count -= 1
    row.note = f"longest {longest:.1f} s by the clock, with making it"
    return row


def _one(folder: Path, name: str, way: str) -> None:
    file, make = BOMBS[name]
    path = folder / file
    make(path)
    size = size_of(path)
    assert size <= 10.5e6, f"{size:,} bytes are no small file"
    limits = Limits.of(size)
    assert limits.memory < 1.6e9
    assert limits.seconds <= 20.5
    try:
        if way == "open":
            isolated(read_scan, path, named=file, limits=limits)
        else:
            isolated(import_dataset, "bombs", [path], named=file, limits=limits)
    except CovsegError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
    else:
        raise AssertionError("it was taken for a scan")
    finally:
        os.unlink(path)
    left = [each for each in temporary_root().rglob("*") if each.is_file()]
    assert not left, f"left behind: {left[0]}"


def _small(before: int) -> None:
    grown = psutil.Process().memory_info().rss - before
    assert grown < HERE, f"this process has grown by {grown / 1e6:,.0f} MB"
