"""For all tests of the pages."""

from __future__ import annotations

import pytest
import unisolated


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read here, which is faster, unless a test asks for `other_process`."""
    modules = "dashboard.app_pages.predict.workspace", "dashboard.services.uploads"
    unisolated.in_this_process(request, monkeypatch, *modules)
