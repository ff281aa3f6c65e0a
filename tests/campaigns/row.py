"""What a campaign returns, a row of the table; and where the processes that it starts find it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Row:
    """How often something was done, and what went wrong."""

    count: int = 0
    failures: list[str] = field(default_factory=list)
    """A line for each; one that says at which of them, so that it can be found again."""
    note: str = ""
    """More figures, for the table: `longest 0.4 s`."""

    def attempt(self, what: str, do: Callable[[], object]) -> None:
        """Do it once, and keep what it raises."""
        self.count += 1
        try:
            do()
        except Exception as error:
            self.failures.append(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())}"[:500])


def environment(**more: str) -> dict[str, str]:
    """Of a process that imports campaigns, covseg and what tests share, wherever it starts; and these variables."""
    path = [TESTS.parent, TESTS, TESTS / "synthetic", *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))} | more
