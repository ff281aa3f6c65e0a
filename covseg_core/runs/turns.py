"""Whose turn it is among the runs that wait: the oldest first, unless somebody has moved one up or paused it.

Both stand in `turn.json` of the run's folder, where its worker looks while it waits. Whoever is resumed waits at the
end again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from covseg_core.errors import CovsegError, RunError
from covseg_core.files import cached_json, write_json
from covseg_core.places import LOCAL
from covseg_core.runs.liveness import host
from covseg_core.runs.run import Run, Status, list_runs, read_status

FILE = "turn.json"
APART = 1e-6
"""Between two places at least [s]; what a Unix time can still tell apart."""


@dataclass(frozen=True)
class Turn:
    """What somebody has said of a run's turn."""

    place: float = 0.0
    """Among the times at which runs joined the queue [s]; 0: its own."""
    paused: bool = False


@dataclass(frozen=True)
class Waiting:
    """A run in the queue."""

    run: Run
    status: Status
    turn: Turn

    @property
    def place(self) -> float:
        return self.turn.place or self.status.queued


def read_turn(run: Run) -> Turn:
    """As it stands in the folder; a file that cannot be read says nothing, since no training may fail by it."""
    try:
        return cached_json(run.folder / FILE, Turn)
    except CovsegError:
        return Turn()


def waiting() -> list[Waiting]:
    """Living runs of this machine that wait, in the order of their turns; those that are paused keep their place."""
    found = []
    for run in list_runs():
        status = read_status(run)
        if status is not None and status.state == "queued" and status.host == host() and run.placed.kind == LOCAL:
            found.append(Waiting(run, status, read_turn(run)))
    return sorted(found, key=lambda one: (one.place, one.run.id))


def ahead(run: Run, queued: float) -> int:
    """How many runs have their turn before this one, which joined the queue at that time; paused ones have none."""
    own = (read_turn(run).place or queued, run.id)
    return sum(
        not other.turn.paused and (other.place, other.run.id) < own for other in waiting() if other.run.id != run.id
    )


def move_up(run: Run) -> None:
    """Change places with the one before.

    Raises
    ------
    RunError : it does not wait, or is the first already
    """
    queue = waiting()
    number = _number(run, queue)
    if not number:
        raise RunError(run.id, "is the first in the queue")
    queue[number - 1], queue[number] = queue[number], queue[number - 1]
    last = 0.0
    for one, place in zip(queue, sorted(one.place for one in queue), strict=True):
        last = max(place, last + APART)  # some may have joined at the same moment
        if one.place != last:
            _write(one.run, dataclasses.replace(one.turn, place=last))


def pause(run: Run, paused: bool = True) -> None:
    """Let the others go first until it is said to go on.

    Raises
    ------
    RunError : it does not wait
    """
    queue = waiting()
    _write(run, dataclasses.replace(queue[_number(run, queue)].turn, paused=paused))


def forget(run: Run) -> None:
    """For a run that joins the queue again."""
    (run.folder / FILE).unlink(missing_ok=True)


def _number(run: Run, queue: list[Waiting]) -> int:
    for number, one in enumerate(queue):
        if one.run.id == run.id:
            return number
    status = read_status(run)
    raise RunError(run.id, f"is {status.state}" if status else "is gone", "a run that waits on this machine")


def _write(run: Run, turn: Turn) -> None:
    write_json(run.folder / FILE, turn)
