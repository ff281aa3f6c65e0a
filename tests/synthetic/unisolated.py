"""`isolation.isolated` without another process, which takes seconds to start: for tests of what is done there."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from covseg_core.errors import Cancelled, CovsegError
from covseg_core.isolation import Fault


def call(function: Callable[..., Any], *arguments: object, progress: Any = None, **_: object) -> Any:
    """As `isolated`, without limits."""
    try:
        return function(*arguments, **({"progress": progress} if progress else {}))
    except (Cancelled, CovsegError, MemoryError):  # the first by `progress`
        raise
    except Exception:
        raise Fault(traceback.format_exc()) from None


def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """What these modules give to another process is done here, unless the test asks for `other_process`."""
    if "other_process" not in request.fixturenames:
        for module in modules:
            monkeypatch.setattr(f"{module}.isolated", call)
