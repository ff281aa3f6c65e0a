"""What can go wrong in a way the user can mend.

Every error is one line that says which file or setting, which value was found, and what was expected. The command line
prints that line and exits with 2; the dashboard shows it in a red box. Anything that is not a `CovsegError` is a bug.
"""

from __future__ import annotations

import os

_LONGEST = 300
"""Characters of each of the three parts: names and values come from files, and may be as long as those."""


class CovsegError(Exception):
    """Something the user can mend.

    Parameters
    ----------
    what : the file, setting or name the error is about
    found : what was found there
    expected : what would have been right; may be empty

    Examples
    --------
    >>> str(CovsegError("ct.nii.gz", "4 dimensions (512, 512, 40, 2)", "3 dimensions"))
    'ct.nii.gz: 4 dimensions (512, 512, 40, 2); expected 3 dimensions'
    """

    def __init__(self, what: str | os.PathLike[str], found: str, expected: str = "") -> None:
        self.what = os.fspath(what)
        self.found = found
        self.expected = expected
        text = f"{_short(self.what)}: {_short(found)}" + (f"; expected {_short(expected)}" if expected else "")
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        """To be told by another process, also where a kind of error takes more than these three."""
        return _told, (type(self), self.args, self.__dict__)


def _short(part: str) -> str:
    """Without its middle, if it is too long."""
    return part if len(part) <= _LONGEST else f"{part[:200]} ... {part[-80:]}"


def _told(kind: type[CovsegError], arguments: tuple[object, ...], values: dict[str, object]) -> CovsegError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(values)
    return error


class Cancelled(Exception):
    """Long work was given up because somebody asked for it; nothing was written. No error."""


class ScanError(CovsegError):
    """A file cannot be used as a CT scan or as a mask."""


class UnknownScale(ScanError):
    """The values of a scan fit neither HU nor 0-255: somebody has to say which of them they are."""


class PairingError(CovsegError):
    """Scans and masks do not belong together."""


class DatasetError(CovsegError):
    """A dataset is missing, empty or unfit for what was asked."""


class SettingError(CovsegError):
    """A setting has a value that cannot be used."""


class RunError(CovsegError):
    """A run is missing, or in a state that does not allow what was asked."""


class ArchiveError(CovsegError):
    """An archive of images cannot be reached, refuses, or gives something else than was asked for."""


class PlaceError(CovsegError):
    """A place where runs are trained does not exist, or does not take them."""


class DownloadError(CovsegError):
    """A download failed or its content is not what it should be."""
