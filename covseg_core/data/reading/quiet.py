"""Reading files from strangers without a word from the library that does it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()
"""Python keeps one list of filters for all threads: two that come and go here would leave each other's behind."""


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings: they quote files and their names, which may be a patient's. To be held for a file at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
