"""For all tests of the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cohorts import Here


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read here, which is faster, unless a test asks for `other_process`."""
    if "other_process" in request.fixturenames:
        return

    def call(function: Callable[..., Any], *arguments: object, progress: Any = None, **_: object) -> Any:
        return function(*arguments, **({"progress": progress} if progress else {}))

    for module in ("workspace", "cohort_task", "cohort_scan"):
        monkeypatch.setattr(f"dashboard.app_pages.predict.{module}.isolated", call)
    monkeypatch.setattr("covseg_core.prediction.cohort.predict.Worker", Here)
    monkeypatch.setattr("dashboard.services.uploads.isolated", call)


@pytest.fixture
def other_process() -> None:
    """Files are read in another process, as they always are outside of tests."""
