"""Patients' names wherever files and computers have room for one, and a search for them in what is given away."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import string
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
from dicomfiles import Stack, write
from fakeruns import fake_folds, fake_run

from covseg_core.cli import cli
from covseg_core.config import SplitConfig
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.evaluation.comparison import evaluate
from covseg_core.evaluation.cross_validation.folds import folds_of
from covseg_core.evaluation.model import single_runs
from covseg_core.evaluation.pseudonymous import pseudonymous, pseudonyms_of
from covseg_core.evidence.bundle import write_bundle
from covseg_core.figures import scans
from covseg_core.prediction.predict import predict
from covseg_core.runs import Run

FIELDS = ("descrip", "aux_file", "db_name", "intent_name")
DIGITS = "23456789"


def words(chance: random.Random, count: int) -> list[str]:
    """Names that stand nowhere by chance: eight letters, and eight digits as of a day of birth."""
    letters, digits = string.ascii_uppercase, DIGITS
    return ["".join(chance.choices(letters, k=8)) + "_" + "".join(chance.choices(digits, k=8)) for _ in range(count)]


class Planted:
    """A computer on which everything is called after somebody; to be made in empty folders for data and runs."""

    def __init__(self, root: Path, seed: int = 0, cases: int = 5) -> None:
        chance = random.Random(seed)
        names = words(chance, cases + 4)
        self.secrets = [part for name in names for part in name.split("_")]
        self.people, (self.header, self.user, self.host, place) = names[:cases], names[cases:]
        self.root = root / self.user / place
        self.root.mkdir(parents=True)
        for made, person in zip(write_sample(root / "made", scans=cases, size=48, slices=8), self.people, strict=True):
            made.rename(self.root / person)
            for file in (self.root / person).iterdir():
                self._plant(file)
        self.dataset = import_dataset("mine", [self.root / person for person in self.people], allow_empty=True)
        shutil.rmtree(root / "made")

    def runs(self) -> list[Run]:
        split = SplitConfig(fractions=(0.4, 0.2, 0.4))
        runs = [fake_run(self.dataset, f"one-{metric}", metric, split, 100) for metric in ("iou", "dice")]  # type: ignore[arg-type]
        return self._at_home(runs)

    def folds(self) -> list[Run]:
        return self._at_home(fake_folds(self.dataset, {"iou": 90, "dice": 120}, 2))

    def series(self) -> Path:
        """A DICOM series with a name in every tag that has room for one."""
        image = nib.load(self.root / self.people[0] / "ct.nii.gz")
        values = np.asarray(image.dataobj).T.astype(np.int16)
        stack = Stack(values, np.array([[0, 0, 5.0 * k] for k in range(len(values))]), spacing=(6.0, 6.0))
        folder = self.root / "dicom"
        write(folder, stack)
        return folder

    def _plant(self, path: Path) -> None:
        image = nib.load(path)
        for field in FIELDS:
            image.header[field] = self.header[: image.header[field].dtype.itemsize]
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, self.header.encode()))
        voxels = nib.Nifti1Image(np.asarray(image.dataobj).copy(), image.affine, image.header)
        nib.save(voxels, path)

    def _at_home(self, runs: list[Run]) -> list[Run]:
        """As they are after training: their status says where, and why."""
        import dataclasses

        for run in runs:
            reason = f"{self.root}/{self.people[0]}: read"
            run.write_status(dataclasses.replace(run.status, host=self.host, process=f"{self.host}/1/2", reason=reason))
        return runs


def given_away(planted: Planted, out: Path, compare: Callable[..., dict[str, bytes]] | None = None) -> None:
    """Everything that leaves, into a folder: bundles, tables, figures, the command line's JSON, predictions.

    `compare` : what the Compare page exports, by file name
    """
    from click.testing import CliRunner

    out.mkdir(parents=True)
    runs, folds = planted.runs(), planted.folds()
    one, folded = evaluate(runs), evaluate(folds)
    write_bundle(single_runs(runs), one, out / "evidence.zip")
    write_bundle(folds_of(folds), folded, out / "folds.zip")
    (out / "dice.html").write_bytes(scans.html(pseudonymous(one, pseudonyms_of(one))))
    for name, command in {
        "evaluate.json": ["evaluate", *(run.id for run in runs), "--json"],
        "shift.json": ["shift", *(run.id for run in runs), "--json"],
    }.items():
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        (out / name).write_text(done.stdout)
    for name, content in (compare(one, runs, planted) if compare else {}).items():
        (out / name).write_bytes(content)
    scan = planted.root / planted.people[1] / "ct.nii.gz"
    predict(scan, [runs[0]], out / "of-nifti", lungs=None)
    predict(planted.series(), [runs[0]], out / "of-dicom", lungs=None)


def found_in(folder: Path, secrets: Sequence[str]) -> list[str]:
    """`file: secret` for each that stands in a name or in the bytes of anything below a folder, packed or not."""
    everything = [(str(path.relative_to(folder)), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    assert everything
    return [
        f"{name}: {secret}"
        for top, content in everything
        for name, part in _opened(top, content)
        for secret in secrets
        if any(form in part or form.decode("latin1") in name for form in _forms(secret))
    ]


def _forms(secret: str) -> list[bytes]:
    return [secret.encode(), secret.lower().encode(), secret.encode("utf-16-le")]


def _opened(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The file itself and, one in another, all that is packed in it."""
    yield name, content
    if content[:2] == b"\x1f\x8b":
        yield from _opened(f"{name}>", gzip.decompress(content))
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.namelist():
                yield from _opened(f"{name}>{entry}", archive.read(entry))


@contextmanager
def computer(planted_user: str, planted_host: str) -> Iterator[None]:
    """A computer and a user of these names."""
    with (
        patch("socket.gethostname", lambda: planted_host),
        patch.dict("os.environ", {"USER": planted_user, "LOGNAME": planted_user, "HOSTNAME": planted_host}),
    ):
        yield
