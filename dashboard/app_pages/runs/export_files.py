"""The chosen runs as files: their table, and their curves for TensorBoard. No Streamlit here."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

from covseg_core.export.event_files import event_files
from dashboard.app_pages.runs import run_table
from dashboard.app_pages.runs.rows import RunRow


def table_csv(chosen: Sequence[RunRow]) -> bytes:
    """A row a run, as the page shows it; tags with commas between them."""
    table = run_table.run_table(chosen, set()).drop(columns=run_table.CHOSEN)
    table[run_table.TAGS] = table[run_table.TAGS].map(", ".join)
    return table.to_csv(index=False).encode()


def events_zip(chosen: Sequence[RunRow]) -> bytes:
    """A folder a run, with its event files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in chosen:
            for path, events in event_files(row.run).items():
                archive.writestr(path, events)
    return content.getvalue()
