"""Imports that are killed, fail at the end, or run side by side. What a user loses when it fails: data sets, or disk
space after each crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from niftis import listing

from covseg_core.data.library import importing
from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.data.library.importing import import_dataset
from covseg_core.errors import DatasetError


def test_an_import_that_fails_at_the_very_end_takes_its_cases_back(
    phantom_files: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_dataset("demo", [phantom_files / "phantom_003"])
    before = listing(data_folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "dataset.json")

    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_json", full)
        with pytest.raises(DatasetError, match=r"dataset.json: No space left on device"):
            import_dataset("demo", [phantom_files / "phantom_001"])
    assert listing(data_folder) == before


def test_cases_left_by_a_kill_between_moving_and_listing_are_cleared_by_the_next(phantom_files: Path) -> None:
    dataset = import_dataset("demo", [phantom_files / "phantom_003"])
    shutil.copytree(phantom_files / "phantom_001", dataset.folder / "cases/phantom_001")
    assert [case.id for case in load_dataset("demo").cases] == ["phantom_003"]
    dataset = import_dataset("demo", [phantom_files / "phantom_001"])
    assert [case.id for case in dataset.cases] == ["phantom_001", "phantom_003"]


IMPORT = """
import sys
from covseg_core.errors import CovsegError
from covseg_core.data.library.importing import import_dataset

def wait(done, total):
    if done == 1:
        print("half", flush=True)
        sys.stdin.read()

try:
    import_dataset(sys.argv[1], sys.argv[2:], progress=wait)
except CovsegError as error:
    sys.exit(f"refused: {error}")
"""


def start_import(*arguments: object) -> subprocess.Popen[str]:
    """Import in a process of its own, up to after the first case; it goes on when its stdin is closed."""
    command = [sys.executable, "-c", IMPORT, *map(str, arguments)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_kill_9_leaves_only_a_staging_folder_that_the_next_import_clears(
    existing: bool, cases: Path, phantom_files: Path, data_folder: Path
) -> None:
    if existing:
        import_dataset("demo", [phantom_files / "phantom_002"], allow_empty=True)
    before = {name: content for name, content in listing(data_folder).items() if name not in {".", "datasets"}}
    process = start_import("demo", cases)
    process.kill()
    process.communicate()
    left = listing(data_folder)
    added = left.keys() - before.keys() - {".", "datasets"}
    assert added == {name for name in left if name.startswith("datasets/.import-demo")}
    assert "datasets/.import-demo/cases/phantom_001/ct.nii.gz" in left, "killed too early to prove anything"
    assert before.items() <= left.items()
    assert list_datasets() == (["demo"] if existing else [])

    import_dataset("other", [cases])
    assert not [name for name in listing(data_folder) if ".import" in name]
    assert len(import_dataset("demo", [cases]).cases) == (3 if existing else 2)


def test_of_two_imports_of_one_name_the_second_is_refused_and_the_first_is_whole(
    cases: Path, phantom_files: Path
) -> None:
    first = start_import("demo", cases)
    with pytest.raises(DatasetError, match=r"dataset demo: another import into it is running"):
        import_dataset("demo", [phantom_files / "phantom_002"], allow_empty=True)
    import_dataset("other", [phantom_files / "phantom_003"])
    _, errors = first.communicate(timeout=60)
    assert (first.returncode, errors) == (0, "")
    assert [case.id for case in load_dataset("demo").cases] == ["phantom_001", "phantom_003"]
    assert list_datasets() == ["demo", "other"]
