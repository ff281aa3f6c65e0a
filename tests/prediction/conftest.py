"""What the tests of predictions share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chests import BRIGHT, make_run

from covseg_core.runs import Run


@pytest.fixture
def runs(checkpoints_folder: Path) -> Callable[..., Run]:
    """Makes a run whose model marks what is brighter than a value."""

    def make(id: str = "lesions", above: float = BRIGHT, **config: Any) -> Run:
        return make_run(checkpoints_folder, id, above, **config)

    return make
