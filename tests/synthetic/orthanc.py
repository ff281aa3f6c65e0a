"""A real archive on this machine: Debian's Orthanc with its DICOMweb plug-in, on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from cohorts import save_series
from pydicom import dcmread

from covseg_core.archive.settings import archive_named
from covseg_core.archive.transfer import send_files

USER, PASSWORD = "covseg", "four words of secret"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
BINARY = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "" if BINARY and PLUGIN.exists() else "needs Orthanc: on Debian, apt-get install orthanc orthanc-dicomweb"


class Orthanc:
    """Runs between `start` and `stop`, and keeps what it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, dicom = free_port(), free_port()
        folder.mkdir(parents=True)
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "DicomPort": dicom,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        assert BINARY
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([BINARY, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        for _ in range(600):
            try:
                requests.get(f"{self.url}/studies", auth=(USER, PASSWORD), timeout=5).raise_for_status()
                return
            except requests.RequestException:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        raise AssertionError("Orthanc does not answer")

    def stop(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """One that is ended whatever happens, also if a test has ended and started it meanwhile."""
    orthanc = Orthanc(folder)
    orthanc.start()
    try:
        yield orthanc
    finally:
        orthanc.stop()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def write_archives(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """`lab` is the archive, `stranger` the same with a wrong password, `nobody` without a user."""
    (folder / "archives.toml").write_text(
        f'[lab]\nurl = "{url}"\nuser = "{USER}"\npassword_from = "LAB_PASSWORD"\ntimeout = 20\n'
        f'[stranger]\nurl = "{url}"\nuser = "{USER}"\npassword_from = "WRONG"\n'
        f'[nobody]\nurl = "{url}"\n'
    )
    monkeypatch.setenv("COVSEG_ARCHIVES", str(folder / "archives.toml"))
    monkeypatch.setenv("LAB_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG", "no")


def stored(folder: Path, patient: str, day: str, voxels: int = 60) -> tuple[str, str]:
    """Send a series of a chest to the archive; its study and series."""
    paths = save_series(folder / patient, voxels, patient, day)
    assert send_files(archive_named("lab"), paths) == len(paths)
    first = dcmread(paths[0], stop_before_pixels=True)
    return str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
