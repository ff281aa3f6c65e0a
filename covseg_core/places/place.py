"""`place.json`: where a run's process was sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from covseg_core.errors import CovsegError
from covseg_core.files import cached_json, write_json

FILE = "place.json"
LOCAL: Literal["local"] = "local"
SLURM: Literal["slurm"] = "slurm"


@dataclass(frozen=True)
class Placed:
    """Where a run was sent, and by what its job is known there."""

    place: str = LOCAL
    """Name in `places.toml`."""
    kind: Literal["local", "slurm"] = LOCAL
    host: str = ""
    """From where it was sent."""
    job: str = ""
    """SLURM's number, for people."""
    ticket: str = ""
    """Name of the job, another one each time that the run is sent. Known before there is a job, so that a job whose
    number nobody has written down is found by it, and one that was sent earlier sees that it is no longer wanted."""


def read_placed(folder: Path) -> Placed:
    """As it stands in a run's folder. Runs of earlier versions have none, and no run may fail by a broken one."""
    try:
        return cached_json(folder / FILE, Placed)
    except CovsegError:
        return Placed()


def write_placed(folder: Path, placed: Placed) -> None:
    """Whole or not at all."""
    write_json(folder / FILE, placed)
