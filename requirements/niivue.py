"""Fetch NiiVue, the viewer's library, into the dashboard with its SHA-256. `make niivue`, or with another VERSION.

It comes by npm, which checks what it fetches. Nothing else of the package is kept: one file is the whole library.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "dashboard" / "components" / "volume_viewer" / "vendor"
NOTE = FOLDER / "niivue.json"


def main() -> None:
    """Replace the file and its note; the licence beside them is to be read again when the version changes."""
    note = json.loads(NOTE.read_text(encoding="utf-8"))
    version = os.environ.get("VERSION") or note["version"]
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"{note['package']}@{version}"]
        try:
            told = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{' '.join(command)}: {error}; expected npm, and a version that it knows")
        with tarfile.open(Path(folder, told.split()[-1])) as archive:
            about = json.loads(_read(archive, "package/package.json"))
            content = _read(archive, f"package/{note['file']}")
    digest = hashlib.sha256(content).hexdigest()
    if version == note["version"] and digest != note["sha256"]:
        sys.exit(f"{note['file']} of {version}: SHA-256 {digest}, expected {note['sha256']}")
    (FOLDER / "niivue.js").write_bytes(content)
    source = f"https://registry.npmjs.org/@niivue/niivue/-/niivue-{about['version']}.tgz"
    note |= {"version": about["version"], "licence": about["license"], "source": source, "sha256": digest}
    NOTE.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    print(f"NiiVue {note['version']}, {note['licence']}, SHA-256 {digest}")


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        sys.exit(f"{name}: not a file of the package")
    return file.read()


if __name__ == "__main__":
    main()
