"""Where answers of models are kept: in memory while they are few, else in files that are read a few slices at a time.

Files are written, never mapped for writing: on a full disk a write to a map ends the whole process, while a write to a
file is an error like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.errors import CovsegError
from covseg_core.temporary import TemporaryFolder

IN_MEMORY = 128 * 2**20
"""Bytes of answers that are kept in memory: two models' for 250 slices of 256 x 256."""


@dataclass(frozen=True)
class OnDisk:
    """(Z, S, S) float32 in a file, of which some slices at a time are read.

    Not a memory map: what was read of one counts as memory in use.
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


class Spool:
    """Keeps arrays until it is closed, as a `with` statement does; files in a folder that was given stay there.

    Parameters
    ----------
    folder : where files go; None for a temporary folder, which is removed with the spool
    in_memory : bytes that are kept in memory before files are used
    """

    def __init__(self, folder: Path | None = None, in_memory: int = IN_MEMORY) -> None:
        self._given, self._left = folder, in_memory
        self._own: TemporaryFolder | None = None
        self._files = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.remove()

    def keep(self, blocks: Iterator[tuple[slice, np.ndarray]], shape: tuple[int, int, int]) -> np.ndarray | OnDisk:
        """Blocks that come in order, as one (Z, S, S) float32.

        Raises
        ------
        CovsegError : no room on the disk; nothing is left of the file then, as after any other error
        """
        if self._fits(4 * int(np.prod(shape))):
            values = np.empty(shape, np.float32)
            for part, block in blocks:
                values[part] = block
            return values
        path = self._new_file("answer")
        try:
            with open(path, "wb") as file:
                for _, block in blocks:
                    file.write(np.ascontiguousarray(block, np.float32).data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _no_room(error) from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return OnDisk(path, shape)

    def keep_array(self, values: np.ndarray) -> np.ndarray:
        """An array that is there already; from a file it is mapped for reading. Raises as `keep`."""
        if self._fits(values.nbytes):
            return values
        path = self._new_file("array")
        try:
            np.save(path, values, allow_pickle=False)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _no_room(error) from None
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def _fits(self, size: int) -> bool:
        """Whether so many bytes may be kept in memory; then they count."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def _new_file(self, name: str) -> Path:
        self._files += 1
        try:
            if self._given is not None:
                self._given.mkdir(parents=True, exist_ok=True)
                return self._given / f"{name}-{self._files}.npy"
            if self._own is None:
                self._own = TemporaryFolder()
        except OSError as error:
            raise _no_room(error) from None
        return self._own.path / f"{name}-{self._files}.npy"


def _no_room(error: OSError) -> CovsegError:
    return CovsegError("prediction", f"no room for the models' answers ({error.strerror or 'disk full'})")
