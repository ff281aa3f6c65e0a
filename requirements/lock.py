"""Make the pinned requirements from the short lists beside this file: `make pins`.

    python requirements/lock.py [--upgrade]     needs uv

`run.in`, `gpu.in`, `dev.in` and `docs.in` name what covseg needs. From each come two files with every package that this
brings, for Python 3.11 to 3.13: `requirements/<list>.txt` with the SHA-256 of every file, which `make` installs, and at
the top the same pins for one command, which installs covseg as well; pip knows no hash of a folder, so it takes hashes
of all or of none.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SENTENCES = {
    "run": "For a CPU: pip install -r requirements.txt. With an NVIDIA GPU on Linux: requirements-gpu.txt instead.",
    "gpu": "For an NVIDIA GPU on Linux: pip install -r requirements-gpu.txt, instead of requirements.txt",
    "dev": "What `make test` and `make lint` need: pip install -r requirements.txt -r requirements-dev.txt",
    "docs": "What `make docs` needs: pip install -r requirements-docs.txt",
}
"""First line of each file at the top."""
HOW = "pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --generate-hashes".split()


def lock(name: str, more: list[str]) -> None:
    """Write both files of a list; all share the pins of `run`."""
    shared = [] if name == "run" else ["-c", "run.txt"]
    subprocess.run(["uv", *HOW, *more, f"{name}.in", *shared, "-o", f"{name}.txt"], cwd=HERE, check=True)
    top = HERE.parent / ("requirements.txt" if name == "run" else f"requirements-{name}.txt")
    top.write_text(bare(name), encoding="utf-8")


def bare(name: str) -> str:
    """The same pins without their hashes, and covseg itself."""
    pins = re.sub(r" \\\n    --hash=\S+|(?<=\S) \\(?=\n)", "", (HERE / f"{name}.txt").read_text(encoding="utf-8"))
    made = "# Made by `make pins` from the short list in requirements/, where the same pins have their hashes."
    return f"# {SENTENCES[name]}\n{made}\n{pins}" + ("-e .\n" if name in ("run", "gpu") else "")


if __name__ == "__main__":
    for each in SENTENCES:
        lock(each, sys.argv[1:])
