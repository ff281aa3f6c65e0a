"""Series come whole out of a real archive, and results go back to where they belong; what goes wrong is one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from dicomfiles import Stack, write
from fakeruns import fake_run
from orthanc import MISSING, PASSWORD, Orthanc, running, stored, write_archives
from pydicom import dcmread

from covseg_core.archive.search import find_series
from covseg_core.archive.settings import archive_named, archive_names
from covseg_core.archive.transfer import fetch_series, send_files
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import load_dataset
from covseg_core.errors import ArchiveError, Cancelled, CovsegError, SettingError
from covseg_core.prediction.predict import predict

pytest.importorskip("dicomweb_client", reason="needs the optional extra: pip install dicomweb-client")
orthanc_needed = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc") / "it") as orthanc:
        yield orthanc


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orthanc]:
    """The archive `lab` of one test alone, which may kill it."""
    with running(tmp_path / "orthanc") as orthanc:
        write_archives(tmp_path, monkeypatch, orthanc.url)
        yield orthanc


@pytest.fixture
def set_up(server: Orthanc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Orthanc:
    """As `write_archives` says."""
    write_archives(tmp_path, monkeypatch, server.url)
    return server


@orthanc_needed
def test_from_the_archive_to_a_mask_and_back(set_up: Orthanc, phantoms: str, tmp_path: Path) -> None:
    """What is found, fetched, predicted and stored is of the same patient, study and place."""
    lab = archive_named("lab")
    study, series = stored(tmp_path, "anon-31", "20200401")
    stored(tmp_path, "anon-32", "20210401")
    sent = sorted((tmp_path / "anon-31").iterdir())
    [found] = find_series(lab, patient="anon-31")
    assert (found.study, found.series, found.date, found.modality) == (study, series, "20200401", "CT")
    assert found.images == len(sent)
    assert [one.patient for one in find_series(lab, "anon-3*")] == ["anon-32", "anon-31"], "the newest first"
    assert [one.patient for one in find_series(lab, "anon-3*", date="20210101-")] == ["anon-32"]
    assert find_series(lab, "anon-3*", modality="SEG") == []

    steps: list[tuple[int, int]] = []
    fetch_series(lab, study, series, tmp_path / "came", lambda done, total: steps.append((done, total)))
    assert steps == [(number, len(sent)) for number in range(1, len(sent) + 1)]
    came = {str(image.SOPInstanceUID): image for image in map(dcmread, (tmp_path / "came").iterdir())}
    for image in map(dcmread, sent):
        assert np.array_equal(came[str(image.SOPInstanceUID)].pixel_array, image.pixel_array)
        assert came[str(image.SOPInstanceUID)].ImagePositionPatient == image.ImagePositionPatient

    run = fake_run(load_dataset(phantoms), "bright", "dice", SplitConfig(), 150)
    here = predict(tmp_path / "anon-31", run, lungs=None)
    out = tmp_path / "out"
    there = predict(tmp_path / "came", run, out, lungs=None, keep_patient=True)
    assert np.array_equal(here.mask, there.mask) and there.mask.any()
    assert send_files(lab, [out / "mask.dcm", out / "measures.dcm"]) == 2
    for modality, name in (("SEG", "mask.dcm"), ("SR", "measures.dcm")):
        [result] = find_series(lab, "anon-31", modality=modality)
        assert result.study == study, "filed beside the scan"
        fetch_series(lab, study, result.series, tmp_path / modality)
        [back] = map(dcmread, (tmp_path / modality).iterdir())
        again = dcmread(out / name)
        assert back.SOPInstanceUID == again.SOPInstanceUID
        assert back.get("PixelData") == again.get("PixelData")
        assert back.get("ContentSequence") == again.get("ContentSequence")


@orthanc_needed
@pytest.mark.parametrize("name", ["stranger", "nobody"])
def test_wrong_credentials_are_refused(name: str, set_up: Orthanc, tmp_path: Path) -> None:
    study, series = stored(tmp_path, f"anon-{name}", "20200401")
    refused = archive_named(name)
    for call in (
        lambda: find_series(refused),
        lambda: fetch_series(refused, study, series, tmp_path / "came"),
        lambda: send_files(refused, sorted((tmp_path / f"anon-{name}").iterdir())),
    ):
        with pytest.raises(ArchiveError, match=r"refuses .*\(HTTP 40[13]\)") as error:
            call()
        assert PASSWORD not in str(error.value)
    assert not (tmp_path / "came").exists()


@orthanc_needed
def test_an_archive_that_goes_away_in_the_middle_leaves_nothing_half(mortal: Orthanc, tmp_path: Path) -> None:
    lab = archive_named("lab")
    study, series = stored(tmp_path, "anon-1", "20200401")
    images = sorted((tmp_path / "anon-1").iterdir())
    with pytest.raises(ArchiveError, match="does not answer, or has stopped in the middle"):
        send_files(lab, images, lambda done, total: mortal.stop(kill=True) if done == 1 else None)
    with pytest.raises(ArchiveError, match="does not answer"):
        find_series(lab)
    with pytest.raises(ArchiveError, match="does not answer"):
        fetch_series(lab, study, series, tmp_path / "came")
    assert sorted(path.name for path in tmp_path.iterdir() if "came" in path.name) == []
    mortal.start()
    fetch_series(lab, study, series, tmp_path / "came")
    assert len(list((tmp_path / "came").iterdir())) == len(images)


@orthanc_needed
def test_an_archive_that_goes_away_while_images_come_leaves_nothing_half(mortal: Orthanc, tmp_path: Path) -> None:
    """More images than fit in the buffers between the two: what is lost was still there."""
    lab = archive_named("lab")
    noise = np.random.default_rng(0).integers(-1000, 400, (60, 512, 512), np.int16)
    images = write(tmp_path / "large", Stack(noise, np.array([[0, 0, 2.0 * k] for k in range(60)])), PatientID="anon-9")
    send_files(lab, images)
    first = dcmread(images[0], stop_before_pixels=True)
    place = (str(first.StudyInstanceUID), str(first.SeriesInstanceUID), tmp_path / "came")
    came: list[int] = []

    def tell(done: int, total: int) -> None:
        came.append(done)
        if done == 1:
            mortal.stop(kill=True)

    with pytest.raises(ArchiveError, match="stopped in the middle|images came|not of DICOMweb"):
        fetch_series(lab, *place, tell)
    assert 1 <= len(came) < 60
    assert not [path for path in tmp_path.iterdir() if "came" in path.name]
    mortal.start()
    fetch_series(lab, *place)
    assert len(list(place[2].iterdir())) == 60


@orthanc_needed
def test_what_is_not_there_or_given_up_is_said_and_leaves_nothing(set_up: Orthanc, tmp_path: Path) -> None:
    lab = archive_named("lab")
    study, series = stored(tmp_path, "anon-5", "20200401")
    before = set(tmp_path.iterdir())
    with pytest.raises(ArchiveError, match=r"has no series 1\.2\.3"):
        fetch_series(lab, study, "1.2.3", tmp_path / "came")
    with pytest.raises(ArchiveError):
        fetch_series(lab, study, "no identifier", tmp_path / "came")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        fetch_series(lab, study, series, tmp_path / "came", cancel=stop)
    with pytest.raises(SettingError, match="is there already"):
        fetch_series(lab, study, series, tmp_path / "anon-5")
    for date in ("2020", "yesterday", "20200401-2021", "-"):
        with pytest.raises(SettingError, match="YYYYMMDD"):
            find_series(lab, date=date)
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(CovsegError, match="no DICOM file"):
        send_files(lab, [*sorted((tmp_path / "anon-5").iterdir()), tmp_path / "note.txt"])
    assert set(tmp_path.iterdir()) == before | {tmp_path / "note.txt"}


class Liar(BaseHTTPRequestHandler):
    """What an address may lead to that is no archive."""

    answer: tuple[int, str, bytes] = (200, "text/html", b"<html>Welcome</html>")

    def do_GET(self) -> None:
        code, kind, body = self.answer
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, "text/html", b"<html>Welcome</html>"), "not of DICOMweb"),
        ((200, "application/dicom+json", b'[{"no": 1}]'), "not of DICOMweb"),
        ((200, "application/dicom+json", b'[{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]'), "not of DICOMweb"),
        ((200, "application/dicom+json", b"[" * 5000), "not of DICOMweb"),
        ((404, "text/plain", b""), "HTTP 404"),
        ((500, "text/plain", b"secret"), "HTTP 500"),
    ],
)
def test_another_service_is_one_line(
    answer: tuple[int, str, bytes], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Liar, "answer", answer)
    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        write_archives(tmp_path, monkeypatch, f"http://127.0.0.1:{server.server_port}/dicom-web")
        with pytest.raises(ArchiveError, match=said) as error:
            find_series(archive_named("lab"))
        server.shutdown()
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[lab", "expected TOML"),
        ("lab = 1", "expected a table"),
        ('[lab]\nurl = "ftp://x"', "http:// or https://"),
        ('[lab]\nurl = "http://ada:secret@x/"', "no password in it"),
        ('[lab]\nurl = "http://x"\npassword = "secret"', "no setting password"),
        ("[lab]\nurl = 3", "str"),
        ('[lab]\nurl = "http://x"\nuser = "a"\ntoken_from = "T"', "one of them"),
        ('[lab]\nurl = "http://x"\ntimeout = 0', "more than 0"),
        ('[lab]\nurl = "https://x"\ncertificate = "/nowhere.pem"', "expected a file"),
        ('[other]\nurl = "http://x"', "expected other"),
        ("", "a table in that file"),
    ],
)
def test_settings_that_cannot_be_used_are_said(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archives.toml").write_text(text)
    monkeypatch.setenv("COVSEG_ARCHIVES", str(tmp_path / "archives.toml"))
    with pytest.raises(ArchiveError, match=said):
        archive_named("lab")


def test_a_secret_that_is_not_set_is_said_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archives(tmp_path, monkeypatch, "http://127.0.0.1:9")
    monkeypatch.delenv("LAB_PASSWORD")
    assert archive_names() == ["lab", "stranger", "nobody"]
    with pytest.raises(ArchiveError, match="LAB_PASSWORD, which its password_from names, is not set"):
        find_series(archive_named("lab"))


@orthanc_needed
def test_the_command_line_does_the_same(set_up: Orthanc, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from covseg_core.cli import cli

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(cli, ["archive", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    study, series = stored(tmp_path, "anon-77", "20200401")
    assert set_up.url in run("list")
    assert "anon-77" in run("find", "lab", "--patient", "anon-77")
    [found] = json.loads(run("find", "lab", "--patient", "anon-77", "--json"))
    assert (found["study"], found["series"]) == (study, series)
    count = len(list((tmp_path / "anon-77").iterdir()))
    assert f"{count} images" in run("fetch", "lab", study, series, "--output", tmp_path / "came")
    [again] = [tmp_path / "came" / "000001.dcm"]
    assert "1 file stored in lab" in run("send", "lab", again)
