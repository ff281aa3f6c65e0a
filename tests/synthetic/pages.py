"""Pages of the dashboard as a link opens them, driven without a browser."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.components import task_progress
from dashboard.services import tasks

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"


def well(app: AppTest) -> AppTest:
    """The same, after a look that nothing went wrong."""
    assert not app.exception, app.exception
    return app


def open_page(url: str = "", state: Mapping[str, object] | None = None, **query: str) -> AppTest:
    """The page at this address (`compare`; empty for the first), with these query parameters.

    `state` is in the session before the page is drawn: an expander that is open, say.
    """
    app = AppTest.from_file(APP, default_timeout=120)
    # `switch_page` knows pages by their file and only after a first run; browsers ask for them by their address
    app._page_hash = calc_hash(url)
    for name, value in query.items():
        app.query_params[name] = value
    for name, value in (state or {}).items():
        app.session_state[name] = value
    return well(app.run())


def wait(app: AppTest) -> tasks.Task:
    """The task that the page's last button has started, once it has ended."""
    task = tasks.get(list(app.session_state[task_progress.TASKS].values())[-1])
    assert task is not None
    for thread in threading.enumerate():
        if thread.name.endswith(task.id):
            thread.join(60)
    assert task.state != "running"
    return task
