"""Zips from strangers: nothing outside the folder, nothing half unpacked, one clear line."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covseg_core.data.reading.archives import Limits, extract_zip
from covseg_core.errors import DatasetError


def make_zip(path: Path, entries: dict[str, bytes], modes: dict[str, int] | None = None, **options: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if modes and name in modes:
                info.create_system = 3
                info.external_attr = modes[name] << 16
            archive.writestr(info, content)
    return path


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def refuse(zip_path: Path, says: str, limits: Limits | None = None) -> None:
    """The archive is refused with one line about it, and nothing at all is left."""
    before = everything(zip_path.parent)
    with pytest.raises(DatasetError) as error:
        extract_zip(zip_path, zip_path.parent / "out" / "deep", limits)
    assert says in str(error.value)
    assert str(error.value).startswith(str(zip_path))
    assert everything(zip_path.parent) - {"out"} == before


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    """The public data set is imported straight from its zips."""
    scan = bytes(range(256)) * 20_000
    entries = {"cases/": b"", "cases/a b/ct.nii.gz": scan, "Größe.nii": b"x", "__MACOSX/cases/._ct.nii.gz": b"junk"}
    path = make_zip(tmp_path / "data.zip", entries)
    files = extract_zip(path, tmp_path / "new" / "out")
    assert [file.relative_to(tmp_path / "new" / "out").as_posix() for file in files] == [
        "cases/a b/ct.nii.gz",
        "Größe.nii",
    ]
    assert files[0].read_bytes() == scan
    assert everything(tmp_path / "new" / "out") == {"cases", "cases/a b", "cases/a b/ct.nii.gz", "Größe.nii"}


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/tmp/evil", "..", "a\\..\\..\\evil", "C:/evil", "a/\x1b[2Jb", "./..", "a:stream"],
)
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    """A zip must not be able to overwrite the user's files."""
    refuse(make_zip(tmp_path / "evil.zip", {"good.nii": b"1", name: b"2"}), "names that stay inside")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    """A link to /etc, then a file through it: outside the folder without a single `..`."""
    entries = {"out": b"/etc", "out2/file": b"x"}
    refuse(make_zip(tmp_path / "link.zip", entries, {"out": kind | 0o777}), "link or a device")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A megabyte that becomes a gigabyte must not fill the disk."""
    path = make_zip(tmp_path / "bomb.zip", {f"{n}.nii": bytes(2**24) for n in range(4)})
    assert path.stat().st_size < 2**17
    refuse(path, "64 MiB when unpacked; expected at most 32 MiB", Limits(bytes=2**25))
    refuse(path, "4 files; expected at most 3", Limits(files=3))


def test_a_bomb_that_lies_about_its_size_is_cut_short(tmp_path: Path) -> None:
    """The directory says 10 bytes, the data are 16 MiB: unpacking stops at 10."""
    path = make_zip(tmp_path / "liar.zip", {"mask.nii": bytes(2**24)})
    content = path.read_bytes().replace(struct.pack("<L", 2**24), struct.pack("<L", 10))
    path.write_bytes(content)
    refuse(path, "damaged")


def test_more_than_the_free_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling the disk to the brim breaks whatever trains beside it; 200 MiB are left to others."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=201 * 2**20))
    refuse(
        make_zip(tmp_path / "large.zip", {"ct.nii": bytes(2**21)}),
        "2 MiB when unpacked; expected at most the 1 MiB free on disk",
    )


def test_an_encrypted_zip_is_named_as_such(tmp_path: Path) -> None:
    """The user can mend it by unpacking it with the password."""
    path = make_zip(tmp_path / "secret.zip", {"ct.nii": b"x" * 100})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    refuse(path, "'ct.nii' is encrypted; expected a zip without a password")


def test_an_unknown_packing_is_named_as_such(tmp_path: Path) -> None:
    """Windows packs large folders with Deflate64, which Python cannot read."""
    path = make_zip(tmp_path / "deflate64.zip", {"ct.nii": b"x" * 100})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 9
    path.write_bytes(content)
    refuse(path, "packed in a way that cannot be read")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not really", b"\x1f\x8b" + bytes(100)])
def test_what_is_no_zip_is_called_so(tmp_path: Path, content: bytes) -> None:
    """A saved web page named `.zip` is a common accident."""
    path = tmp_path / "page.zip"
    path.write_bytes(content)
    refuse(path, "not a zip, or damaged")


def test_a_missing_zip_or_a_folder_is_one_line(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / "folder.zip").mkdir()
    for name in ("gone.zip", "folder.zip"):
        refuse(tmp_path / name, "cannot be unpacked")


@pytest.mark.parametrize("names", [("a.nii", "a.nii"), ("a.nii", "A.NII"), ("a", "a/b"), ("a/b", "A"), ("./a", "a")])
def test_entries_cannot_overwrite_each_other(tmp_path: Path, names: tuple[str, str]) -> None:
    """Which of two scans of one name is imported would be chance."""
    path = tmp_path / "twice.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name in names:
            archive.writestr(name, name)
    refuse(path, "each name once")


def test_nothing_is_left_when_the_last_file_is_damaged(tmp_path: Path) -> None:
    """19 of 20 scans would look like a whole data set."""
    path = make_zip(tmp_path / "cut.zip", {"good.nii": b"1" * 100, "bad.nii": bytes(range(256)) * 4})
    content = bytearray(path.read_bytes())
    content[content.index(b"bad.nii") + 20] ^= 0xFF
    path.write_bytes(content)
    refuse(path, "damaged")


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    """On an error the folder is removed, so it must be ours."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(DatasetError, match="File exists"):
        extract_zip(make_zip(tmp_path / "a.zip", {"file": b"new"}), tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "keep"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_any_damage_is_a_clear_error_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """A transfer error anywhere in the file must not become a traceback, nor files with wrong content."""
    entries = {"case/ct.nii": bytes(range(256)) * 8, "case/mask.nii": bytes(1000)}
    whole = io.BytesIO()
    make_zip(whole, entries)  # type: ignore[arg-type]
    content = bytearray(whole.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    path, folder = tmp_path / "damaged.zip", tmp_path / "out"
    path.write_bytes(content)
    try:
        files = extract_zip(path, folder)
    except DatasetError:
        assert not folder.exists()
        return
    for file in files:
        assert file.is_relative_to(folder)
        assert file.read_bytes() in entries.values()
    shutil.rmtree(folder)
