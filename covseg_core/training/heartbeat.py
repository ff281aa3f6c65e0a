"""The sign of life of a worker, and how it is told to stop. No Keras here: a worker in the queue has not loaded it."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

from covseg_core.runs import Run, Status


class StopRequested(Exception):
    """The user, or the machine that shuts down, wants the run to end now."""


class Heart:
    """Keeps `status.json` up to date from a thread, so that a long step does not look like a dead process."""

    def __init__(self, run: Run, status: Status, interval: float = 5.0) -> None:
        self.run, self.status, self.interval = run, status, interval
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heart:
        self.write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def note(self, **changes: Any) -> None:
        """Change the status; it is written with the next beat."""
        with self._lock:
            self.status = dataclasses.replace(self.status, **changes)

    def write(self, **changes: Any) -> None:
        """Change the status and write it now."""
        self.note(**changes, heartbeat=time.time())
        with self._lock:
            self.run.write_status(self.status)

    def _beat(self) -> None:
        while not self._ended.wait(self.interval):
            try:
                self.write()
            except OSError:
                # a full disk must not end the training before its checkpoint fails with a clear reason
                continue
