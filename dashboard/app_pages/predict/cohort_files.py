"""A cohort as one zip. No Streamlit here."""

from __future__ import annotations

import io
import tempfile
import zipfile
from typing import cast

from covseg_core.errors import CovsegError
from covseg_core.prediction.cohort.names import SOURCES
from covseg_core.prediction.cohort.page import PAGE, make_page
from covseg_core.prediction.cohort.table import TABLE, make_table
from dashboard.app_pages.predict.cohort_space import CohortSpace

_SMALLER = (".csv", ".json", ".html")
"""What shrinks when it is packed: masks are packed already."""


def cohort_zip(space: CohortSpace) -> io.RawIOBase:
    """All results, without the file that says where scans lie; a file without a name, since it can be large.

    Raises
    ------
    CovsegError : there is nothing any more
    """
    cohort = space.cohort
    if cohort is None:
        raise CovsegError("cohort", "there is none any more", "a new one")
    files = [path for path in sorted(space.output.rglob("*")) if path.is_file() and not _left_out(path.name)]
    # unbuffered, since download buttons take no file that is open for writing, unless it is a raw one
    file = cast(io.RawIOBase, tempfile.TemporaryFile(prefix="covseg-", buffering=0))  # noqa: SIM115 - who asks closes
    with zipfile.ZipFile(file, "w") as archive:
        for path in files:
            kind = zipfile.ZIP_DEFLATED if path.suffix in _SMALLER else zipfile.ZIP_STORED
            archive.write(path, path.relative_to(space.output), kind)
        # as it stands: what was cancelled may not have come to write them
        archive.writestr(TABLE, make_table(cohort), zipfile.ZIP_DEFLATED)
        archive.writestr(PAGE, make_page(cohort, space.output), zipfile.ZIP_DEFLATED)
    file.seek(0)
    return file


def _left_out(name: str) -> bool:
    return name in (SOURCES, TABLE, PAGE) or name.startswith(".")
