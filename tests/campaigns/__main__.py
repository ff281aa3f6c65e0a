"""`make campaign`: all campaigns in full, and their table in docs/reliability.md.

    PYTHONPATH=.:tests:tests/synthetic python -m campaigns [kill race ...] [--seed 0] [--count 10 | --small]

Names run these only, and replace only their rows. With a count or `--small` the table is printed, not kept.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import msgspec
import psutil

import campaigns
from campaigns.row import TESTS, Row, environment

PAGE = TESTS.parent / "docs" / "reliability.md"
HEAD = "| campaign | what is done | times | failures | seconds | date | machine |\n|---|---|---|---|---|---|---|\n"
PATIENCE = 60.0
"""Seconds that a campaign gets to end what it has started."""


def named() -> dict[str, ModuleType]:
    """All campaigns, by name: what has a function `run`."""
    modules = [importlib.import_module(f"campaigns.{found.name}") for found in pkgutil.iter_modules(campaigns.__path__)
               if found.name != "__main__" and not found.name.startswith("test_")]  # fmt: skip
    return {module.__name__.rpartition(".")[2]: module for module in modules if hasattr(module, "run")}


def main() -> int:
    """Exit code 0 if there was no failure."""
    parser = argparse.ArgumentParser(prog="campaigns", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(named())}; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="so many times, instead of the full number")
    parser.add_argument("--small", action="store_true", help="as often as `make test` does it")
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - set(named()):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    if options.result:
        return child(options.names[0], options.count, options.seed, options.result)
    failed = False
    for name in options.names or named():
        campaign = named()[name]
        count = options.count or (campaign.SMALL if options.small else campaign.FULL)
        print(f"{name}: {campaign.WHAT}, {count:,} times", flush=True)
        row, seconds = apart(name, count, options.seed)
        failed |= bool(row.failures)
        line = written(name, row, seconds)
        print(line, flush=True)
        if not (options.count or options.small):
            PAGE.write_text(kept(PAGE.read_text(encoding="utf-8"), name, line), encoding="utf-8")
    return int(failed)


def apart(name: str, count: int, seed: int) -> tuple[Row, float]:
    """The result of a campaign in a process and folders of its own, and how long it took [s]."""
    limit, started = float(named()[name].SECONDS), time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"covseg-{name}-") as folder:
        result = Path(folder) / "result.json"
        roots = {f"COVSEG_{what.upper()}": f"{folder}/{what}" for what in ("data", "checkpoints", "pretrained")}
        process = subprocess.Popen(
            [sys.executable, "-m", "campaigns", name, "--count", str(count), "--seed", str(seed), "--result", result],
            env=environment(**roots),
        )
        try:
            code = process.wait(limit)
            why = f"the campaign ended with exit code {code}"
        except subprocess.TimeoutExpired:
            why = f"not done after {limit:,.0f} s"
        finally:
            end(process)
        row = msgspec.json.decode(result.read_bytes(), type=Row) if result.exists() else Row(count, [why])
    return row, time.monotonic() - started


def child(name: str, count: int, seed: int, result: Path) -> int:
    """Run a campaign here."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it ends what it has started
    result.write_bytes(msgspec.json.encode(named()[name].run(count, seed)))
    return 0


def end(process: subprocess.Popen[bytes]) -> None:
    """By force, if it has to be."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def written(name: str, row: Row, seconds: float) -> str:
    """A line of the table."""
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    failures = f"{len(row.failures)}: " + "; ".join(row.failures[:5]) if row.failures else "0"
    what = named()[name].WHAT + (f"; {row.note}" if row.note else "")
    cells = [name, what, f"{row.count:,}", failures, f"{seconds:,.0f}", f"{datetime.now(UTC):%Y-%m-%d}", machine]
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def kept(page: str, name: str, line: str) -> str:
    """The page with this row in its table, which is sorted by name."""
    above, _, below = page.partition(HEAD)
    rows, rest = re.fullmatch(r"((?:\|.*\|\n)*)(.*)", below, re.DOTALL).groups()  # type: ignore[union-attr]
    others = [row for row in rows.splitlines() if not row.startswith(f"| {name} |")]
    return above + HEAD + "".join(f"{row}\n" for row in sorted([*others, line])) + rest


if __name__ == "__main__":
    sys.exit(main())
