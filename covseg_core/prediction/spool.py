"""Where the answers of several models wait for one another: in memory while they are few, else in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.errors import CovsegError

IN_MEMORY = 128 * 2**20
"""Bytes of answers that are kept in memory: two models' for 250 slices of 256 x 256."""


@dataclass(frozen=True)
class OnDisk:
    """(Z, S, S) float32 in a file, of which some slices at a time are read.

    Not a memory map: on a full disk, writing to one ends the process, and what was read of it counts as memory in use.
    """

    path: Path
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        area = self.shape[1] * self.shape[2]
        values = np.fromfile(self.path, np.float32, max(0, stop - start) * area, offset=4 * start * area)
        return values.reshape(-1, *self.shape[1:])


class Keeper:
    """Keeps arrays until it is closed; to be used in a `with` statement."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._left = in_memory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def keep(self, blocks: Iterator[tuple[slice, np.ndarray]], shape: tuple[int, int, int]) -> np.ndarray | OnDisk:
        """Blocks that come in order, as one (Z, S, S) float32.

        Raises
        ------
        CovsegError : the disk of the temporary folder is full
        """
        size = 4 * int(np.prod(shape))
        if size <= self._left:
            self._left -= size
            values = np.empty(shape, np.float32)
            for part, block in blocks:
                values[part] = block
            return values
        path = self._new_file()
        with open(path, "wb") as file:
            for _, block in blocks:
                try:
                    file.write(np.ascontiguousarray(block, np.float32).data)
                except OSError as error:
                    raise _no_room(error) from None
        return OnDisk(path, shape)

    def _new_file(self) -> Path:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="covseg-", ignore_cleanup_errors=True)
        except OSError as error:
            raise _no_room(error) from None
        self._files += 1
        return Path(self._folder.name) / str(self._files)


def _no_room(error: OSError) -> CovsegError:
    return CovsegError(tempfile.gettempdir(), f"no room for the models' answers ({error.strerror or error})")
