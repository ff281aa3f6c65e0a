"""For all tests of evidence."""

from __future__ import annotations

import pytest
import unisolated


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles are verified here, which is faster, unless a test asks for `other_process`."""
    unisolated.in_this_process(request, monkeypatch, "covseg_core.evidence.verify")
