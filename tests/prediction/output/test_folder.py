"""The output folder. What a user loses otherwise: a hand-corrected mask, a mask that lies beside another scan's report,
or the last good result to a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from covseg_core.errors import CovsegError, ScanError, SettingError
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.output import folder as outputs
from covseg_core.prediction.output.folder import REPORT, check_output, whole_folder

NAMES = ("mask.nii.gz", REPORT)


def put(folder: Path, text: str, names: tuple[str, ...] = ("mask.nii.gz",)) -> None:
    """Write a result: files with `text` in them, and the report that knows them."""
    with whole_folder(folder) as staging:
        for name in names:
            (staging / name).write_text(f"{text} {name}")
        write_json(staging / REPORT, {"notice": "x", "files": {name: sha256_file(staging / name) for name in names}})


def content(folder: Path) -> dict[str, str]:
    """Everything under a folder, by relative path."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["out", "a/b/out"])
def test_a_new_folder_appears_with_its_parents_once_it_is_complete(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with whole_folder(folder) as staging:
        (staging / "mask.nii.gz").write_text("mask")
        assert not (tmp_path / name.split("/")[0]).exists()
    assert listing(folder) == ["mask.nii.gz"]
    assert [path.name for path in tmp_path.iterdir()] == [name.split("/")[0]], "staging left behind"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("earlier", [True, False])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], earlier: bool) -> None:
    folder = tmp_path / "a" / "out"
    if earlier:
        put(folder, "old")
    before = content(tmp_path), listing(tmp_path)

    def fail() -> None:
        with whole_folder(folder) as staging:
            (staging / "mask.nii.gz").write_text("half a m")
            raise error

    with pytest.raises(error):
        fail()
    assert (content(tmp_path), listing(tmp_path)) == before


def test_an_earlier_result_is_replaced_as_a_whole_and_other_files_stay(tmp_path: Path) -> None:
    """A mask of a model that is no longer asked would lie beside a report that does not know it."""
    put(tmp_path / "out", "old", ("mask.nii.gz", "mask_a.nii.gz", "mask_b.nii.gz"))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "mask_expert.nii.gz").write_text("mine")
    leaving = check_output(tmp_path / "out", ["mask.nii.gz", "mask_c.nii.gz", REPORT])
    assert leaving == ("mask.nii.gz", "mask_a.nii.gz", "mask_b.nii.gz", REPORT)
    put(tmp_path / "out", "new", ("mask.nii.gz", "mask_c.nii.gz"))
    assert listing(tmp_path / "out") == [
        "mask.nii.gz", "mask_c.nii.gz", "mask_expert.nii.gz", "notes.txt", REPORT
    ]  # fmt: skip
    assert (tmp_path / "out" / "mask.nii.gz").read_text() == "new mask.nii.gz"


def test_a_mask_that_was_edited_is_never_overwritten(tmp_path: Path) -> None:
    """Radiologists correct the mask in their viewer and save it under its name."""
    put(tmp_path, "old")
    (tmp_path / "mask.nii.gz").write_text("corrected by hand")
    before = content(tmp_path)
    with pytest.raises(SettingError, match=r"mask\.nii\.gz: exists and is not, or no longer, as"):
        check_output(tmp_path, NAMES)
    with pytest.raises(SettingError):
        put(tmp_path, "new")
    assert content(tmp_path) == before


def test_an_edited_mask_that_is_not_in_the_way_stays(tmp_path: Path) -> None:
    put(tmp_path, "old", ("mask.nii.gz", "mask_a.nii.gz"))
    (tmp_path / "mask_a.nii.gz").write_text("corrected by hand")
    put(tmp_path, "new")
    assert (tmp_path / "mask_a.nii.gz").read_text() == "corrected by hand"


@pytest.mark.parametrize(
    "report",
    [None, "", "[]", "{}", '{"files": {}}', '{"notice": "x", "files": ["mask.nii.gz"]}', '{"notice": "x", "files": 3}'],
)
def test_a_folder_that_is_no_earlier_result_is_not_touched(tmp_path: Path, report: str | None) -> None:
    """Such as the folder of the case itself, with the radiologist's mask in it."""
    (tmp_path / "mask.nii.gz").write_text("ground truth")
    if report is not None:
        (tmp_path / REPORT).write_text(report)
    before = content(tmp_path)
    with pytest.raises(SettingError, match="expected another folder"):
        put(tmp_path, "new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["../treasure", "/treasure", "sub/treasure", ".hidden", ""])
def test_a_report_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    """Reports come from other people, too; what they list gets removed."""
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    for copy in (folder / "sub" / "treasure", folder / ".hidden"):
        copy.write_text("mine")
    named = str(treasure) if name == "/treasure" else name
    write_json(folder / REPORT, {"notice": "x", "files": {named: sha256_file(treasure)}})
    assert check_output(folder, NAMES) == (REPORT,)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The file behind it may be the user's only copy."""
    put(tmp_path / "out", "old")
    os.rename(tmp_path / "out" / "mask.nii.gz", tmp_path / "kept.nii.gz")
    os.symlink(tmp_path / "kept.nii.gz", tmp_path / "out" / "mask.nii.gz")
    with pytest.raises(SettingError):
        put(tmp_path / "out", "new")
    assert (tmp_path / "kept.nii.gz").read_text() == "old mask.nii.gz"


@pytest.mark.parametrize("name", ["file", "file/out"])
def test_a_file_in_the_place_of_the_folder_is_told_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingError, match=r"is a file|: a file"):
        check_output(tmp_path / name, NAMES)


def test_a_folder_of_somebody_else_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(SettingError, match="no permission"):
        check_output(tmp_path / "out", NAMES)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), None])
def test_errors_name_the_folder_the_user_gave(tmp_path: Path, error: OSError | None) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "out") as staging:
            raise error or ScanError(staging / "mask.nii.gz", "cannot be written (No space left on device)")

    with pytest.raises(CovsegError, match=r"No space left on device") as caught:
        fail()
    assert str(tmp_path / "out") in str(caught.value)
    assert ".covseg-" not in str(caught.value)
    assert not listing(tmp_path)


@pytest.mark.parametrize("failing", range(1, 6))
def test_a_failure_while_files_are_moved_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Five moves replace two masks and a report by a mask and a report: whichever fails, the old result is whole."""
    put(tmp_path, "old", ("mask.nii.gz", "mask_a.nii.gz"))
    before = content(tmp_path)
    replace, count = os.replace, 0

    def failing_replace(source: Path, target: Path) -> None:
        nonlocal count
        if ".covseg-" in f"{source}{target}":
            count += 1
            if count == failing:
                count += 1  # only once: the way back works
                raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    def fail() -> None:
        with whole_folder(tmp_path) as staging:
            (staging / "mask.nii.gz").write_text("new")
            (staging / REPORT).write_text('{"notice": "x", "files": {}}')
            monkeypatch.setattr(outputs.os, "replace", failing_replace)

    with pytest.raises(CovsegError, match="Input/output error"):
        fail()
    assert count > failing, "no move failed"
    assert content(tmp_path) == before
