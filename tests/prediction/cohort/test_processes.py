"""How many processes there are. What a user loses otherwise: a machine that swaps, or that idles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from chests import BRIGHT

from covseg_core.prediction.cohort import processes
from covseg_core.prediction.cohort.found import FoundScan
from covseg_core.prediction.request import asked_for
from covseg_core.runs import Run


@pytest.mark.parametrize(
    ("cores", "scans", "gb", "size", "expected"),
    [
        (4, 50, 64, 1e7, (4, 1)),  # a scan on each core
        (4, 2, 64, 1e7, (2, 2)),  # few scans share the cores
        (16, 3, 64, 1e7, (3, 5)),
        (8, 50, 2, 1e7, (3, 2)),  # as many as fit into memory
        (8, 50, 4, 1e9, (1, 8)),  # at least one
    ],
)
def test_as_many_as_cores_scans_and_memory_allow(
    runs: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, cores: int, scans: int, gb: float, size: float,
    expected: tuple[int, int],
) -> None:  # fmt: skip
    monkeypatch.setattr(processes, "usable_cores", lambda: cores)
    monkeypatch.setattr(processes, "most_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(processes.psutil, "virtual_memory", lambda: SimpleNamespace(available=int(gb * 2**30)))
    found = [FoundScan(Path("x"), "x", Path("x"), "", round(size))] * scans
    many = processes.plan(found, asked_for(runs("lesions", BRIGHT), None))
    assert (many.number, many.cores) == expected
    assert many.limits.memory > 1.4e9
    assert processes.plan(found, asked_for(runs("lesions", BRIGHT), None), 1).number == 1
