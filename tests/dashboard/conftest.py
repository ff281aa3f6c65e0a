"""For all tests of the pages."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator

import pytest
import unisolated
from cohorts import Here
from streamlit.components.v2 import manifest_scanner


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read here, which is faster, unless a test asks for `other_process`."""
    pages = [f"dashboard.app_pages.predict.{module}" for module in ("workspace", "cohort_task", "cohort_scan")]
    unisolated.in_this_process(request, monkeypatch, "dashboard.services.uploads", *pages)
    if "other_process" not in request.fixturenames:
        monkeypatch.setattr("covseg_core.prediction.cohort.predict.Worker", Here)


@pytest.fixture(scope="module", autouse=True)
def quick_reruns() -> Iterator[None]:
    """Streamlit looks for garbage after each rerun, through all that other tests have left in this process, and each
    new page of a test looks for components in all installed packages. Both are done once."""
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        found = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", found)
        yield
    gc.unfreeze()
