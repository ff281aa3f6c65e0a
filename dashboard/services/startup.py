"""What the server does once, when it starts: it tidies up, and gets ready what the first page and all after it need."""

from __future__ import annotations

import gc
import importlib
import threading

from covseg_core import files, isolation, paths, temporary

MODULES = (
    "pandas",
    "plotly.graph_objects",
    "plotly.io",
    "dashboard.app_pages.train.add_data",
    "dashboard.app_pages.train.settings_form",
    "dashboard.app_pages.monitor.curves",
    "covseg_core.evaluation.comparable",
    "dashboard.components.slice_viewer",
)
"""What the pages import, the first one's first: 1.5 s, in which a browser fetches Streamlit's own code."""

ISOLATED = ("covseg_core.prediction.scan", "covseg_core.data.library.importing")
"""What a process that reads the first file of a stranger needs."""


def start() -> threading.Thread:
    """Import in a thread what the pages will ask for; pages that come sooner wait for what they need."""
    thread = threading.Thread(target=_warm, name="warming", daemon=True)
    thread.start()
    return thread


def _warm() -> None:
    temporary.sweep()
    for root in (paths.data_root(), paths.checkpoints_root()):
        files.remove_half_written(root)
    isolation.warm(*ISOLATED)
    for name in MODULES:
        importlib.import_module(name)
    # Streamlit collects garbage after each rerun, before the browser has its answer. Going through all that the imports
    # have left takes 80 ms of that; none of it ever becomes garbage.
    gc.collect()
    gc.freeze()
