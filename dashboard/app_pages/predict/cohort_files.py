"""A cohort as one zip. No Streamlit here."""

from __future__ import annotations

import io
import tempfile
import zipfile
from typing import cast

from covseg_core.errors import CovsegError
from covseg_core.prediction.cohort.names import SOURCES
from dashboard.app_pages.predict.cohort_space import CohortSpace

_SMALLER = (".csv", ".json", ".html")
"""What shrinks when it is packed: masks are packed already."""


def cohort_zip(space: CohortSpace) -> io.RawIOBase:
    """All results, without the file that says where scans lie; a file without a name, since it can be large.

    Raises
    ------
    CovsegError : there is nothing any more
    """
    files = [path for path in sorted(space.output.rglob("*")) if path.is_file() and not _hidden(space, path.name)]
    if not files:
        raise CovsegError("cohort", "there is none any more", "a new one")
    # unbuffered, since download buttons take no file that is open for writing, unless it is a raw one
    file = cast(io.RawIOBase, tempfile.TemporaryFile(prefix="covseg-", buffering=0))  # noqa: SIM115 - who asks closes
    with zipfile.ZipFile(file, "w") as archive:
        for path in files:
            kind = zipfile.ZIP_DEFLATED if path.suffix in _SMALLER else zipfile.ZIP_STORED
            archive.write(path, path.relative_to(space.output), kind)
    file.seek(0)
    return file


def _hidden(space: CohortSpace, name: str) -> bool:
    return name == SOURCES or name.startswith(".")
