"""Files from browsers on disk: in their place, whole, and gone when they are not needed."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bombs import tall_nifti
from dicomfiles import stack_of, write, write_seg

from covseg_core.data.library import datasets
from covseg_core.errors import Cancelled, CovsegError, DatasetError, PairingError, ScanError, SettingError
from dashboard.services import tasks, upload_receiver, uploads


class Sent(io.BytesIO):
    """A file as `st.file_uploader` hands it over."""

    def __init__(self, name: str, content: bytes = b"content") -> None:
        super().__init__(content)
        self.name, self.size = name, len(content)


def received(*files: Sent) -> uploads.Upload:
    upload = uploads.new_upload()
    upload.add(files)
    return upload


def folder(path: Path, without: str = "nothing") -> list[Sent]:
    """A folder as a browser sends it: each file with its path in the folder."""
    files = sorted(path.rglob("*.nii.gz"))
    return [Sent(str(file.relative_to(path.parent)), file.read_bytes()) for file in files if without not in file.name]


def run(upload: uploads.Upload, name: str = "mine", **options: object) -> str:
    work = upload.import_as(name, **options)  # type: ignore[arg-type]
    return work(tasks.TaskProgress(tasks.Task("import", "")), threading.Event())


def left() -> list[Path]:
    return sorted(uploads.uploads_root().glob("*"))


def test_a_folder_becomes_a_dataset_and_the_upload_goes(phantom_files: Path) -> None:
    upload = received(*folder(phantom_files))
    assert upload.summary() == ("6 scans, 6 infection masks, 6 lung masks", "")
    assert run(upload, allow_empty=True) == "mine"
    assert [case.id for case in datasets.load_dataset("mine").cases] == [f"phantom_00{n}" for n in range(1, 7)]
    assert left() == []


def test_it_is_imported_in_another_process(phantom_files: Path, other_process: None) -> None:
    """To the same dataset, with progress."""
    seen: list[tuple[int, int]] = []
    upload = received(*folder(phantom_files))
    upload.import_as("apart", allow_empty=True)(lambda *steps: seen.append(steps), threading.Event())
    run(received(*folder(phantom_files)), "here", allow_empty=True)
    apart, here = datasets.load_dataset("apart"), datasets.load_dataset("here")
    assert apart.fingerprint == here.fingerprint
    assert seen == [(number, 6) for number in range(1, 7)]
    assert left() == []


def test_a_file_that_asks_for_too_much_keeps_the_upload_to_mend_it(tmp_path: Path, other_process: None) -> None:
    tall_nifti(tmp_path / "ct.nii.gz")
    content = (tmp_path / "ct.nii.gz").read_bytes()
    upload = received(Sent("a/ct.nii.gz", content), Sent("a/mask.nii.gz", content))
    with pytest.raises(ScanError, match="^upload: needs more memory to read than"):
        run(upload)
    assert upload.folder.exists()
    assert datasets.list_datasets() == []


def test_a_zip_becomes_a_dataset(phantom_files: Path, tmp_path: Path) -> None:
    archive = tmp_path / "Our scans 2024.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in phantom_files.rglob("*.nii.gz"):
            packed.write(file, file.relative_to(phantom_files))
    upload = received(Sent(archive.name, archive.read_bytes()))
    assert upload.summary() == ("1 zip", "")
    assert uploads.free_name(upload) == "Our-scans-2024"
    run(upload, allow_empty=True)
    assert len(datasets.load_dataset("mine").cases) == 6


def test_a_folder_of_dicom_slices_with_its_masks(phantom_files: Path, tmp_path: Path, other_process: None) -> None:
    """As a research group has it: slices without an ending, a SEG, and what else lies there, also without a byte."""
    case = tmp_path / "study/p7"
    ct, mask, lung = (
        nib.load(phantom_files / f"phantom_001/{n}.nii.gz") for n in ("ct", "infection_mask", "lung_mask")
    )
    slices = write(case / "dicom", stack_of(ct))
    write_seg(case / "1.dcm", slices, np.asarray(mask.dataobj).T.astype(np.uint8)[..., None], ["GGO"])
    nib.save(lung, case / "lung_mask.nii.gz")
    (tmp_path / "study/.gitkeep").touch()
    (tmp_path / "study/Readme.txt").write_text("about")
    files = [file for file in sorted((tmp_path / "study").rglob("*")) if file.is_file()]
    upload = received(*[Sent(str(file.relative_to(tmp_path)), file.read_bytes()) for file in files])
    assert upload.summary() == (f"1 NIfTI file, {len(slices) + 1} DICOM files, 1 other file", "")
    assert uploads.free_name(upload) == "study"
    run(upload)
    [imported] = datasets.load_dataset("mine").cases
    assert (imported.id, imported.infection is None, imported.lung is None) == ("p7", False, False)
    assert left() == []


def test_loose_dicom_slices_are_a_case(phantom_files: Path, tmp_path: Path) -> None:
    """Chosen in a file dialog, they come without their folder; a file of another kind beside them does no harm."""
    slices = write(tmp_path, stack_of(nib.load(phantom_files / "phantom_001/ct.nii.gz")))
    mask = (phantom_files / "phantom_001/infection_mask.nii.gz").read_bytes()
    files = [Sent(file.name, file.read_bytes()) for file in slices]
    run(received(*files, Sent("infection_mask.nii.gz", mask), Sent("about.txt", b"text")))
    [imported] = datasets.load_dataset("mine").cases
    assert imported.infection is not None
    assert imported.id.startswith("upload-")


def test_what_is_wrong_with_dicom_is_said_in_the_users_words(phantom_files: Path, tmp_path: Path) -> None:
    slices = write(tmp_path / "dicom", stack_of(nib.load(phantom_files / "phantom_001/ct.nii.gz")), Modality="MR")
    upload = received(*[Sent(f"p7/dicom/{file.name}", file.read_bytes()) for file in slices])
    with pytest.raises(ScanError, match="^p7/dicom: no usable CT series .*magnetic resonance, not a CT"):
        run(upload)
    assert upload.folder.exists()


def test_one_scan_without_a_name_of_its_own_is_still_a_case(phantom_files: Path) -> None:
    """`ct.nii.gz` and `infection_mask.nii.gz`, chosen in a file dialog, come without their folder."""
    case = phantom_files / "phantom_001"
    upload = received(*[Sent(file.name, file.read_bytes()) for file in case.iterdir()])
    run(upload)
    [imported] = datasets.load_dataset("mine").cases
    assert imported.infection is not None
    assert imported.id.startswith("upload-")


def test_scans_and_masks_can_come_one_after_the_other(phantom_files: Path) -> None:
    upload = received(*folder(phantom_files, without="mask"))
    assert upload.summary() == ("6 scans, 0 infection masks, 0 lung masks", "There is no mask")
    upload.add([file for file in folder(phantom_files) if "mask" in file.name])
    assert upload.summary()[1] == ""


def test_a_mask_without_a_scan_is_pointed_out_before_the_import(phantom_files: Path) -> None:
    upload = received(*folder(phantom_files), Sent("mask_77.nii.gz"))
    found, problem = upload.summary()
    assert found == "19 NIfTI files"
    assert problem == "mask_77.nii.gz: mask without a scan; expected a scan with the id 77"


def test_what_the_user_can_mend_keeps_the_upload(phantom_files: Path) -> None:
    """Nobody wants to send 2 GB again for a wrong option."""
    upload = received(*folder(phantom_files))
    with pytest.raises(ScanError) as caught:
        run(upload)
    assert str(caught.value).startswith("phantoms"), "the file is called as the user calls it"
    assert str(uploads.uploads_root()) not in str(caught.value)
    assert uploads.find_upload(upload.id) == upload
    assert run(upload, allow_empty=True) == "mine"


def test_a_broken_file_is_named(phantom_files: Path) -> None:
    files = folder(phantom_files)
    upload = received(Sent("scan_1.nii.gz", files[0].getvalue()[:2000]), Sent("mask_1.nii.gz", files[1].getvalue()))
    with pytest.raises(CovsegError, match=r"^scan_1\.nii\.gz: truncated or damaged"):
        run(upload)
    assert datasets.list_datasets() == []


def test_unpaired_masks_and_scans_without_masks_are_refused(phantom_files: Path) -> None:
    with pytest.raises(PairingError):
        run(received(Sent("mask_1.nii.gz")))
    with pytest.raises(DatasetError, match="no mask"):
        run(received(*folder(phantom_files, without="mask")))


def test_cancelling_an_import_removes_upload_and_dataset(phantom_files: Path, data_folder: Path) -> None:
    upload = received(*folder(phantom_files))
    task = tasks.Task("import", "")
    task.cancel()
    with pytest.raises(Cancelled):
        upload.import_as("mine", allow_empty=True)(tasks.TaskProgress(task), task.cancelling)
    assert [path for path in data_folder.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))  # type: ignore[attr-defined]
    upload = uploads.new_upload()
    with pytest.raises(DatasetError, match="0 MB free on this disk; expected 210 MB more"):
        upload.add([Sent("ct.nii")])
    assert not upload.folder.exists()


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, sink: object, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    upload = uploads.new_upload()
    with pytest.raises(DatasetError, match="No space left on device"):
        upload.add([Sent("ct.nii")])
    assert upload.files == []


@pytest.mark.parametrize("name", ["../ct.nii", "a/../../ct.nii", "", "/", "a\0b.nii", "a\nb.nii", "x" * 300 + ".nii"])
def test_a_name_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(DatasetError, match="cannot be used"):
        received(Sent(name))
    assert left() == []


@pytest.mark.parametrize("name", ["/etc/passwd.nii", "C:\\scans\\ct.nii", "./a//b.nii", "Größe 7.nii"])
def test_a_strange_name_stays_inside(name: str) -> None:
    upload = received(Sent(name))
    [file] = upload.files
    assert file.resolve().is_relative_to(upload.folder.resolve())


def test_two_files_of_one_name_are_refused_whole() -> None:
    """The browser does not say from which folder; the second would silently replace the first."""
    upload = received(Sent("ct.nii"))
    for more in ([Sent("ct.nii")], [Sent("other.nii"), Sent("other.nii")]):
        with pytest.raises(DatasetError, match="two files of this name"):
            upload.add(more)
    assert [file.name for file in upload.files] == ["ct.nii"]


def test_an_empty_file_takes_back_what_came_with_it() -> None:
    upload = uploads.new_upload()
    with pytest.raises(DatasetError, match="empty file"):
        upload.add([Sent("ct.nii"), Sent("mask.nii", b"")])
    assert upload.files == []


def test_a_file_that_is_on_disk_already_is_moved_and_not_copied() -> None:
    arrived = upload_receiver.uploads_root() / ("0" * 32)
    arrived.parent.mkdir(parents=True)
    arrived.write_bytes(b"a large scan")
    inode = arrived.stat().st_ino
    upload = received(Sent("ct.nii", b"covseg upload " + b"0" * 32))
    [file] = upload.files
    assert file.read_bytes() == b"a large scan"
    assert file.stat().st_ino == inode
    assert not arrived.exists()


def test_what_is_refused_does_not_stay_on_disk() -> None:
    """One bad file of a folder of 2 GB, and the 2 GB would lie there until tomorrow."""
    arrived = upload_receiver.uploads_root() / ("0" * 32)
    arrived.parent.mkdir(parents=True)
    arrived.write_bytes(b"a large scan")
    with pytest.raises(DatasetError, match="5 MB free"):
        received(Sent("ct.nii", b"covseg upload " + b"0" * 32), Sent("x.nii", b"covseg has no room: 5 MB free"))
    assert left() == []


def test_what_nobody_imported_goes_after_a_day() -> None:
    old, new = received(Sent("ct.nii")), received(Sent("ct.nii"))
    lost = upload_receiver.uploads_root() / ("0" * 32)
    lost.write_bytes(b"of a closed tab")
    yesterday = time.time() - 25 * 3600
    for path in (old.folder.parent, lost):
        os.utime(path, (yesterday, yesterday))
    uploads.new_upload()
    assert left() == [new.folder.parent]


def test_an_upload_is_found_by_its_id_alone() -> None:
    upload = received(Sent("ct.nii"))
    assert uploads.find_upload(upload.id) == upload
    for id in (None, "", "../x", "0" * 32):
        assert uploads.find_upload(id) is None


def test_the_name_that_is_offered_is_free(phantoms: str, phantom_files: Path) -> None:
    files = [Sent(f"Phantoms/{file.name}", file.getvalue()) for file in folder(phantom_files)[:2]]
    assert uploads.free_name(received(*files)) == "Phantoms-2", "one name on disks that do not tell capitals"
    assert uploads.free_name(received(Sent("ct_1.nii"), Sent("mask_1.nii"))) == "my-scans"


def test_labels() -> None:
    assert uploads.parse_labels(" ") is None
    assert uploads.parse_labels("1, 2;3") == (1, 2, 3)
    for text in ("0", "-1", "a", "1.5"):
        with pytest.raises(SettingError):
            uploads.parse_labels(text)
