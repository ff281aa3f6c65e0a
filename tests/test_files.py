"""A crash leaves the old file or the new one, and a name from outside cannot leave its folder."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from covseg_core import files
from covseg_core.errors import CovsegError, SettingError
from covseg_core.files import (
    atomic_path,
    cached_json,
    cached_sha256,
    read_json,
    remove_half_written,
    safe_name,
    sha256_file,
    stamp,
    write_bytes,
    write_json,
)


@pytest.mark.parametrize("name", ["a", "ct20", "coronacases_001", "2020-01-01.x", "x" * 100])
def test_plain_names_are_taken(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "../x", "/etc", "a b", "a\n", "ü", "x" * 101, "a\0b"],
)
def test_names_that_could_leave_the_folder_are_refused(name):
    with pytest.raises(SettingError, match="expected"):
        safe_name(name)


def test_a_name_as_long_as_a_file_is_still_a_short_line() -> None:
    with pytest.raises(SettingError) as error:
        safe_name("x" * 10**6)
    assert len(str(error.value)) < 500
    assert str(error.value).startswith("name: 'xxx")
    assert "x ... x" in str(error.value)
    assert str(error.value).endswith("first a letter or digit")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    file = tmp_path / "a.json"
    write_bytes(file, b"old")
    with pytest.raises(RuntimeError, match="power"), atomic_path(file) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("power")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_temporary_name_keeps_the_suffixes(tmp_path: Path):
    """nibabel writes gz, and Keras weights, by the end of the name."""
    with atomic_path(tmp_path / "new" / "case" / "mask.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path / "new" / "case"
        temporary.write_bytes(b"x")
    assert (tmp_path / "new" / "case" / "mask.nii.gz").read_bytes() == b"x"


def test_json_of_numpy_values_and_of_nan(tmp_path: Path):
    file = tmp_path / "a.json"
    write_json(file, {"a": np.float32(0.5), "b": np.arange(2), "c": math.nan, "d": Path("x")})
    assert read_json(file, dict) == {"a": 0.5, "b": [0, 1], "c": None, "d": "x"}


def test_what_is_no_json_says_which_file(tmp_path: Path):
    with pytest.raises(CovsegError, match="no such file"):
        read_json(tmp_path / "missing.json", dict)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CovsegError, match=r"a\.json"):
        read_json(tmp_path / "a.json", dict)


@dataclass(frozen=True)
class Share:
    value: float

    def __post_init__(self) -> None:
        if self.value > 1:
            raise SettingError("share", f"{self.value:g}", "at most 1")


def test_values_that_do_not_fit_say_which_file_and_which_value(tmp_path: Path):
    """Whoever edits a run's config.json by hand must learn what to mend."""
    file = tmp_path / "config.json"
    file.write_text('{"value": 0.5}')
    assert read_json(file, Share) == Share(0.5)
    file.write_text('{"value": 2}')
    with pytest.raises(CovsegError, match=r"/config\.json: share: 2; expected at most 1$"):
        read_json(file, Share)
    file.write_text('{"value": "much"}')
    with pytest.raises(CovsegError, match=r"/config\.json: .*`float`.*`str`.*\$\.value.*; expected JSON of Share$"):
        read_json(file, Share)


def test_json_can_be_read_and_compared_by_people(tmp_path: Path):
    """Runs are compared line by line, with `diff` or in a repository: a line for each value, and one at the end."""
    write_json(tmp_path / "a.json", {"a": 1, "b": {"c": math.inf}})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1,\n  "b": {\n    "c": null\n  }\n}\n'


def test_what_json_cannot_hold_is_a_bug_and_writes_nothing(tmp_path: Path):
    with pytest.raises(TypeError, match="cannot write set_iterator as JSON"):
        write_json(tmp_path / "a.json", {"a": iter({1})})
    assert not list(tmp_path.iterdir())


def test_a_refused_name_is_repeated_with_what_may_be_in_it() -> None:
    """A user who may not use an umlaut is told so, not only that something is wrong."""
    with pytest.raises(SettingError) as caught:
        safe_name("stra\u00dfe", "run")
    assert str(caught.value) == (
        "run: 'stra\u00dfe'; expected 1 to 100 of the characters A-Z a-z 0-9 . _ -, first a letter or digit"
    )


def test_sha256_of_a_known_text(tmp_path: Path):
    (tmp_path / "abc").write_text("abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_read_again_only_once_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that asks on every rerun whether fifteen models are still the same would take half a second."""
    path, asked = tmp_path / "model.onnx", []
    assert (cached_sha256(path), stamp(path)) == ("", None)
    write_bytes(path, b"weights")
    first = cached_sha256(path)
    assert first == sha256_file(path)
    monkeypatch.setattr(files, "sha256_file", lambda path: asked.append(path) or "other")
    assert cached_sha256(path) == first
    assert asked == []
    write_bytes(path, b"WEIGHTS")  # as long as before, as models of one network are
    assert cached_sha256(path) == "other"


def test_json_is_read_again_only_once_it_has_changed(tmp_path: Path) -> None:
    """The Monitor page asks for the configuration of every run, again and again, and must see an edited one."""
    path = tmp_path / "config.json"
    with pytest.raises(CovsegError, match="no such file"):
        cached_json(path, Share)
    write_json(path, Share(0.5))
    first = cached_json(path, Share)
    assert first == Share(0.5)
    assert cached_json(path, dict) == {"value": 0.5}, "as another kind it is another value"
    assert cached_json(path, Share) is first
    write_json(path, Share(0.7))
    assert cached_json(path, Share) == Share(0.7)


def test_a_file_with_the_time_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    """Copied back with `cp -p`, weights of another training have an old date and the same size."""
    path, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    write_bytes(path, b"weights")
    write_bytes(other, b"WEIGHTS")
    first = cached_sha256(path)
    time = path.stat().st_mtime_ns
    os.utime(other, ns=(time, time))
    os.replace(other, path)
    assert cached_sha256(path) != first


def test_what_a_killed_writer_left_goes_after_a_day(tmp_path: Path) -> None:
    """It may hold a patient. What is being written stays, and so does all that has another name."""
    folder = tmp_path / "run"
    with atomic_path(folder / "report.json") as written:
        written.write_bytes(b"patient")
        left = folder / written.name.replace("report", "mask")
        left.write_bytes(b"patient")
        for name in (".0123.x", ".hidden", "0123abcd.x", ".0123abcg.x"):
            (folder / name).write_bytes(b"")
        old = time.time() - 90_000
        for path in (left, *(folder / name for name in (".0123.x", ".hidden", "0123abcd.x", ".0123abcg.x"))):
            os.utime(path, (old, old))
        remove_half_written(tmp_path)
        assert written.exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        ".0123.x", ".0123abcg.x", ".hidden", "0123abcd.x", "report.json",
    ]  # fmt: skip
    remove_half_written(tmp_path / "nothing")


def test_what_cannot_be_removed_keeps_nothing_else_of_a_killed_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = time.time() - 90_000
    left = [tmp_path / f".0123456{number}.mask.nii.gz" for number in range(3)]
    for path in left:
        path.write_bytes(b"patient")
        os.utime(path, (old, old))
    unlink, tried = Path.unlink, []

    def refusing(path: Path, missing_ok: bool = False) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise PermissionError(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    remove_half_written(tmp_path)
    assert sorted(tried) == left
    assert [path for path in left if path.exists()] == tried[:1]
