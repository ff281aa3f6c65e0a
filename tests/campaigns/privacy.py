"""Computers on which everything is called after somebody, and what they give away, searched for the names."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from dicomfiles import SECRET
from planted import Planted, computer, found_in, given_away

from campaigns.row import Row

WHAT = "random names in folders, headers, DICOM tags, paths, user and computer; bundles, JSON, figures and predictions"
WHAT += " are made and searched for them, packed or not"
FULL, SMALL, SECONDS, TRAINS = 100, 1, 2 * 3600, False


def run(count: int, seed: int) -> Row:
    """Each time with other names, in folders of its own."""
    row = Row()
    for number in range(count):
        row.attempt(f"names {number} of seed {seed}", lambda number=number: _once(seed * 10_000 + number))  # type: ignore[misc]
    return row


def _once(seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="covseg-privacy-") as folder:
        root = Path(folder)
        roots = {"COVSEG_DATA": f"{root}/data", "COVSEG_CHECKPOINTS": f"{root}/checkpoints"}
        with patch.dict(os.environ, roots):
            planted = Planted(root / "home", seed)
            with computer(planted.user, planted.host):
                given_away(planted, root / "out")
            found = found_in(root / "out", [*planted.secrets, SECRET, folder])
    assert not found, found[:3]
