"""The staging folder. What a user loses when it fails: disk space after each crash, or half a dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from covseg_core.data.library.staging import staging
from covseg_core.errors import DatasetError

HOLD = """
import sys
from pathlib import Path
from covseg_core.data.library.staging import staging
with staging(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "scan").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def hold(root: Path, name: str) -> subprocess.Popen[bytes]:
    """A process that has a staging folder until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, str(root), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_nothing_is_left_not_even_the_folders_made_for_it(tmp_path: Path) -> None:
    with staging(tmp_path / "data" / "datasets", "a") as folder:
        (folder / "sub").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_though_empty(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staging(tmp_path, "a"):
        raise KeyboardInterrupt
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_for_a_name_and_any_number_for_several(tmp_path: Path) -> None:
    other = hold(tmp_path, "a")
    with pytest.raises(DatasetError, match=r"dataset a: another import into it is running"), staging(tmp_path, "a"):
        pass
    with staging(tmp_path, "b") as folder:
        assert folder.is_dir()
    assert (tmp_path / ".import-a" / "scan").read_bytes() == b"half", "a live import was cleared away"
    finish(other)
    with staging(tmp_path, "a") as folder:
        assert not (folder / "scan").exists()


def test_what_a_killed_import_left_goes_with_the_next_of_any_name(tmp_path: Path) -> None:
    killed = hold(tmp_path, "a")
    killed.kill()
    killed.communicate()
    assert (tmp_path / ".import-a" / "scan").exists()
    with staging(tmp_path, "b"):
        assert [path.name for path in tmp_path.iterdir()] == [".import-b"]
    assert list(tmp_path.iterdir()) == []
