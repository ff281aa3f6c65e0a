"""Runs as folders: what they hold, how they are started, stopped and resumed, and what is kept beside their weights."""

from covseg_core.runs.liveness import host
from covseg_core.runs.run import (
    ACTIVE,
    RESUMABLE,
    Run,
    Standardisation,
    State,
    Status,
    create_run,
    delete_run,
    delete_runs,
    list_runs,
    open_run,
    open_runs,
    read_status,
)

__all__ = [
    "ACTIVE",
    "RESUMABLE",
    "Run",
    "Standardisation",
    "State",
    "Status",
    "create_run",
    "delete_run",
    "delete_runs",
    "host",
    "list_runs",
    "open_run",
    "open_runs",
    "read_status",
]
