"""Write docs/reference/licences.md: the licence of every package that requirements.txt installs. `make licences`."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
HEAD = """# Licences

What `pip install -r requirements.txt` installs on Linux on x86_64, as the packages say themselves. Made by
`make licences`.

| package | version | licence |
|---|---|---|
"""
NOTE = ROOT / "dashboard" / "components" / "volume_viewer" / "vendor" / "niivue.json"
TAIL = """
In the repository itself lies one file of others, unchanged: `dashboard/components/volume_viewer/vendor/niivue.js`, the
library of the volume viewer, with its licence and SHA-256 beside it. `make niivue` fetches it again.

| package | version | licence |
|---|---|---|
"""
_SHORT = 60
"""Characters; some packages put the whole text where its name belongs."""


def licence(package: metadata.PackageMetadata) -> str:
    """Its SPDX expression, else its classifiers, else what it says in words."""
    if expression := package.get("License-Expression"):
        return str(expression)
    classes = [value for key, value in package.items() if key == "Classifier" and value.startswith("License ::")]
    if names := [name for name in (one.split(" :: ")[-1] for one in classes) if name != "OSI Approved"]:
        return ", ".join(names)
    words = str(package.get("License") or "").strip().splitlines()
    return words[0][:_SHORT] if words else "not said"


def pinned() -> list[str]:
    """Names in requirements.txt."""
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return list(dict.fromkeys(re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)))


def main() -> None:
    """Write the page; packages for other platforms are left out."""
    rows = []
    for name in pinned():
        try:
            package = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        rows.append(f"| {name} | {package['Version']} | {licence(package)} |\n")
    library = json.loads(NOTE.read_text(encoding="utf-8"))
    own = "| {package} | {version} | {licence} |\n".format(**library)
    PAGE.write_text(HEAD + "".join(rows) + TAIL + own, encoding="utf-8")


if __name__ == "__main__":
    main()
