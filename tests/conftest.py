"""What every test gets: folders of its own for data and runs, and the real scans where they exist."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pytest
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Dataset
    from covseg_core.runs import Run

# For `make mutants`: one example that fails is enough, however large, and it is the same every time.
settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), derandomize=True)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("COLUMNS", None)  # of the terminal, or of pytest-xdist: tables would be folded elsewhere


@pytest.fixture(scope="session", autouse=True)
def _no_test_in_the_users_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures of wider scope than a test, too, must not write to the user's `data/` and `checkpoints/`."""
    root = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVSEG_DATA", str(root / "data"))
        patch.setenv("COVSEG_CHECKPOINTS", str(root / "checkpoints"))
        patch.setenv("COVSEG_PRETRAINED", str(root / "checkpoints" / "pretrained"))
        yield


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `COVSEG_DATA`, different for every test."""
    folder = tmp_path / "covseg-data"
    monkeypatch.setenv("COVSEG_DATA", str(folder))
    return folder


@pytest.fixture(autouse=True)
def checkpoints_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `COVSEG_CHECKPOINTS`, different for every test."""
    folder = tmp_path / "covseg-checkpoints"
    monkeypatch.setenv("COVSEG_CHECKPOINTS", str(folder))
    monkeypatch.setenv("COVSEG_PRETRAINED", str(folder / "pretrained"))
    return folder


@pytest.fixture
def other_process() -> None:
    """What is done in another process is done there, as always outside of tests, also where most tests do it here."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real CT data (`ct20/`, `medseg/`, `dicom/`, ...), named by `COVSEG_REAL_DATA`; skips without it."""
    named = os.environ.get("COVSEG_REAL_DATA")
    if not named:
        pytest.skip("needs real CT data: set COVSEG_REAL_DATA to their folder")
    folder = Path(named)
    if not (folder / "ct20").is_dir():
        pytest.skip(f"needs real CT data: COVSEG_REAL_DATA names {folder}, which has no ct20/")
    return folder.resolve()


@pytest.fixture(scope="session")
def phantom_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six small phantom scans with masks."""
    from covseg_core.data.phantom.phantom import write_sample

    folder = tmp_path_factory.mktemp("phantoms")
    write_sample(folder, scans=6, size=64, slices=8)
    return folder


@pytest.fixture
def cases(phantom_files: Path, tmp_path: Path) -> Path:
    """Folder of two cases with lesions, to be spoilt."""
    for number in (1, 3):
        shutil.copytree(phantom_files / f"phantom_00{number}", tmp_path / "in" / f"phantom_00{number}")
    return tmp_path / "in"


@pytest.fixture
def phantoms(phantom_files: Path, data_folder: Path) -> str:
    """Name of a dataset of the six phantoms, in the test's own data folder."""
    from covseg_core.data.library.importing import import_dataset

    return import_dataset("phantoms", [phantom_files], allow_empty=True).name


@pytest.fixture(scope="session")
def imported_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """Data folders, to be copied, with so many phantoms of 8 slices and this side as dataset `phantoms`; made once."""
    from covseg_core.data.library.importing import import_dataset
    from covseg_core.data.phantom.phantom import write_sample

    @functools.cache
    def imported(scans: int, size: int) -> Path:
        root = tmp_path_factory.mktemp("imported")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COVSEG_DATA", str(root))
            cases = write_sample(tmp_path_factory.mktemp("sample"), scans=scans, size=size, slices=8)
            import_dataset("phantoms", cases, allow_empty=True)
        return root

    return imported


@pytest.fixture
def small_phantoms(imported_phantoms: Callable[[int, int], Path], data_folder: Path) -> Callable[..., Dataset]:
    """`small_phantoms(6)`: so many small phantoms, one of them free of lesions, in the test's own data folder."""
    from covseg_core.data.library.datasets import load_dataset

    def make(scans: int, size: int = 48) -> Dataset:
        shutil.copytree(imported_phantoms(scans, size), data_folder)
        return load_dataset("phantoms")

    return make


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs that are started stay in the queue."""
    from fakeruns import Idle

    monkeypatch.setattr(subprocess, "Popen", Idle)
    yield
    for descriptors in Idle.held.values():
        for descriptor in descriptors:
            os.close(descriptor)
    Idle.held.clear()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`made_once(name, make)`: a folder that `make` has filled, once a run of the tests, not once a worker of it.

    For what takes long. The worker of pytest-xdist that comes first makes it, and the others wait; to be copied.
    """
    base = tmp_path_factory.getbasetemp()

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
        with filelock.FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                made = tmp_path_factory.mktemp(name)
                make(made)
                made.rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def trained_folders(phantom_files: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """`data` and `checkpoints` of a finished experiment, to be copied: three tiny models of the six phantoms.

    `running.json` tells which of the metrics were being trained, at each look.
    """
    import covseg_core
    from covseg_core.data.library.importing import import_dataset
    from covseg_core.files import write_json

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COVSEG_DATA", str(folder / "data"))
            patch.setenv("COVSEG_CHECKPOINTS", str(folder / "checkpoints"))
            import_dataset("phantoms", [phantom_files], allow_empty=True)
            runs = covseg_core.train("phantoms", epochs=2, size=32, filters=2, batch=4)
            seen: list[list[str]] = []
            covseg_core.wait(
                runs, lambda: seen.append([run.config.metric for run in runs if run.status.state == "running"])
            )
            write_json(folder / "running.json", seen)
            for run in runs:
                assert run.status.state == "finished", run.log.read_text()

    return made_once("trained", make)


@pytest.fixture
def trained(trained_folders: Path, data_folder: Path, checkpoints_folder: Path) -> list[Run]:
    """The finished runs of three tiny models, one a metric, and their dataset `phantoms`, in the test's own folders."""
    from covseg_core.config import THESIS
    from covseg_core.runs import list_runs

    shutil.copytree(trained_folders / "data", data_folder)
    shutil.copytree(trained_folders / "checkpoints", checkpoints_folder)
    return sorted(list_runs(), key=lambda run: THESIS.index(run.config.metric))
