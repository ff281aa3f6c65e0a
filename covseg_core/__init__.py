"""covseg: train U-Nets that outline COVID-19 lesions on chest CT, compare them, and use them on new scans.

The Python API, for notebooks and scripts; command line and dashboard call the same functions:

>>> import covseg_core
>>> run = covseg_core.open_run("infection-dice")
>>> mask = covseg_core.predict("scan.nii.gz", run).mask
>>> mask.shape, mask.dtype
((8, 64, 64), dtype('uint8'))

Rooms, from the ground up: `archive` (of a hospital), `data` (from files to slices), `places` (where trainings run),
`runs` (as folders), `prediction`, `evaluation`, `figures`, `evidence`, `export`, `cli`. `training` is the only room
that imports a framework, and only the worker's process comes in. The package never imports streamlit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from covseg_core.version import __version__

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import load_dataset
    from covseg_core.evaluation.comparison import evaluate
    from covseg_core.prediction.predict import predict
    from covseg_core.runs import open_run
    from covseg_core.runs.jobs import train, wait

__all__ = ["__version__", "evaluate", "load_dataset", "open_run", "predict", "train", "wait"]

_HOMES = {
    "load_dataset": "covseg_core.data.library.datasets",
    "train": "covseg_core.runs.jobs",
    "wait": "covseg_core.runs.jobs",
    "open_run": "covseg_core.runs",
    "evaluate": "covseg_core.evaluation.comparison",
    "predict": "covseg_core.prediction.predict",
}


def __getattr__(name: str) -> Any:
    """Functions are imported when they are asked for: who wants one room does not wait for all of them."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
