"""Where things are kept. Read from the environment at each call, so that tests and workers can point elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def data_root() -> Path:
    """Folder of uploaded, downloaded and cached data: `COVSEG_DATA`, by default `data/` in the repository."""
    return Path(os.environ.get("COVSEG_DATA") or REPOSITORY / "data").expanduser().absolute()


def checkpoints_root() -> Path:
    """Folder of runs: `COVSEG_CHECKPOINTS`, by default `checkpoints/` in the repository."""
    return Path(os.environ.get("COVSEG_CHECKPOINTS") or REPOSITORY / "checkpoints").expanduser().absolute()


def archives_file() -> Path:
    """File of the archives of images: `COVSEG_ARCHIVES`, by default `archives.toml` beside the data."""
    return Path(os.environ.get("COVSEG_ARCHIVES") or data_root() / "archives.toml").expanduser().absolute()


def places_file() -> Path:
    """File of the places where runs are trained: `COVSEG_PLACES`, by default `places.toml` beside the runs."""
    return Path(os.environ.get("COVSEG_PLACES") or checkpoints_root() / "places.toml").expanduser().absolute()


def python_path() -> str:
    """`PYTHONPATH` of a process that is to find this package, wherever it starts."""
    return os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


def pretrained_root() -> Path:
    """Folder of the shipped models: `COVSEG_PRETRAINED`, by default in the repository, wherever runs are kept."""
    named = os.environ.get("COVSEG_PRETRAINED")
    return Path(named or REPOSITORY / "checkpoints" / "pretrained").expanduser().absolute()
