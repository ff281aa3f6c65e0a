"""Evidence bundles that somebody has laid hands on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from covseg_core.evidence.bundle import MANIFEST


def changed(path: Path, changes: dict[str, Callable[[bytes], bytes | None]], *, honest: bool = False) -> Path:
    """A copy with some files changed, or left out where the change is None; `honest`: the manifest knows of it."""
    with zipfile.ZipFile(path) as archive:
        files: dict[str, bytes | None] = {entry: archive.read(entry) for entry in archive.namelist()}
    files |= {name: change(files[name] or b"") for name, change in changes.items()}
    if honest:
        manifest = json.loads(files[MANIFEST] or b"")
        kept = {name: content for name, content in files.items() if content is not None and name != MANIFEST}
        manifest["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in kept.items()}
        files[MANIFEST] = json.dumps(manifest).encode()
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for entry, content in files.items():
            if content is not None:
                archive.writestr(entry, content)
    return other


def edited(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """A change of what a JSON file holds, in place."""

    def edit(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return edit
