"""The disk fills up while something is written to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from fakeruns import fake_run

from campaigns.row import Row, environment
from campaigns.trainings import import_phantoms
from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import dataset_folder, load_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.paths import data_root
from covseg_core.runs import Run, jobs, list_runs

WHAT = "the disk fills up at a random moment of an import, an evaluation, a bundle, a prediction or (each tenth) a"
WHAT += " training: one line, nothing that was there is lost, nothing half written stays, and with room it works"
FULL, SMALL, SECONDS, TRAINS = 100, 4, 2 * 3600, False

SIZE = 48 * 2**20
"""Of the disk, in bytes."""
MODEL = "first-dice"
TRAINING = "train phantoms --metric dice --epochs 3 --size 32 --filters 2 --batch 4 --wait".split()
WRITTEN_AGAIN = {"evaluation.json", "test_predictions.npy", "pace.json"}
"""Of a run: whole, the old or the new."""
HALF = re.compile(r"\.[0-9a-f]{8}\..*")


def run(count: int, seed: int) -> Row:
    """On a file system in memory, where this user may mount one; else with a limit on the size of files."""
    row, kinds = Row(), ["import", "evaluate", "bundle", "predict"]
    root = data_root() / "disk"
    with _disk(root) as disk, patch.dict(os.environ, disk.roots), _commands() as commands:
        steps = _prepared(disk)
        needed = {kind: _needed(disk, commands, steps[kind]) for kind in kinds}
        failed = 0
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            kind = "train" if number % 10 == 9 else kinds[number % len(kinds)]
            told = f"{kind} {number} of seed {seed}"
            if kind == "train":
                row.attempt(told, lambda chance=chance: _train(disk, commands, chance))  # type: ignore[misc]
                continue
            room = chance.randrange(round(1.1 * needed[kind]))
            row.attempt(
                f"{told}, {room:,} bytes",
                lambda step=steps[kind], room=room: _one(disk, commands, step, room),  # type: ignore[misc]
            )
            failed += disk.failed
    row.note = f"{failed} times there was no room; {disk.kind}"
    return row


@dataclass(frozen=True)
class _Step:
    """A command, and what it makes."""

    words: list[str]
    made: Path | None


@dataclass
class _Disk:
    """A place where little can be written."""

    root: Path
    kind: str
    limit: int = resource.RLIM_INFINITY
    """Bytes of a file, where there is no disk of our own."""
    failed: bool = False
    """Whether there was no room the last time."""

    @property
    def roots(self) -> dict[str, str]:
        return {f"COVSEG_{what.upper()}": str(self.root / what) for what in ("data", "checkpoints", "pretrained")}

    def fill(self, room: int) -> None:
        """Leave so many bytes."""
        if not self.mounted:
            self.limit = max(1, room)
            return
        free = shutil.disk_usage(self.root).free
        with open(self.root / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))

    def free(self) -> None:
        self.limit = resource.RLIM_INFINITY
        (self.root / "filler").unlink(missing_ok=True)

    @property
    def mounted(self) -> bool:
        return self.root.is_mount()

    def used(self) -> int:
        """Bytes in whole pages; of the largest file where the limit is one of files."""
        sizes = [path.stat().st_size for path in self.root.rglob("*") if path.is_file()]
        return sum(-(-size // 4096) * 4096 for size in sizes) if self.mounted else max(sizes)


@contextlib.contextmanager
def _disk(root: Path) -> Iterator[_Disk]:
    root.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "covseg", str(root)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield _Disk(root, "a small tmpfs" if mounted else "a limit on the size of files, since no tmpfs can be mounted")
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


def _prepared(disk: _Disk) -> dict[str, _Step]:
    """A dataset, a model, and files elsewhere."""
    elsewhere = disk.root.parent / "elsewhere"
    cases = write_sample(elsewhere, scans=2, size=48, slices=8)
    import_phantoms()
    fake_run(load_dataset("phantoms"), MODEL, "dice", SplitConfig(fractions=(0.4, 0.2, 0.4)), 100)
    zip, out = disk.root / "evidence.zip", disk.root / "out"
    return {
        "import": _Step(["data", "add", "more", str(elsewhere), "--allow-empty"], dataset_folder("more")),
        "evaluate": _Step(["evaluate", MODEL], None),
        "bundle": _Step(["bundle", MODEL, "--output", str(zip)], zip),
        "predict": _Step(["predict", str(cases[0] / "ct.nii.gz"), "--run", MODEL, "--output", str(out)], out),
    }


def _needed(disk: _Disk, commands: _Commands, step: _Step) -> int:
    before = disk.used()
    code, said = commands.ask(step.words, disk)
    assert code == 0, said
    needed = disk.used() - before if disk.mounted else disk.used()
    _undo(step)
    return max(needed, 20_000)


def _undo(step: _Step) -> None:
    if step.made is not None and step.made.is_dir():
        shutil.rmtree(step.made)
    elif step.made is not None:
        step.made.unlink(missing_ok=True)


def _one(disk: _Disk, commands: _Commands, step: _Step, room: int) -> None:
    before = _content(disk.root)
    disk.fill(room)
    try:
        code, said = commands.ask(step.words, disk)
    finally:
        disk.free()
    disk.failed = code != 0
    if code:
        _check_said(code, said)
        _check_kept(before, _content(disk.root))
        made = step.made is not None and step.made.exists()
        assert not made or (step.made.is_dir() and not any(step.made.rglob("*"))), f"{step.made} stays"  # type: ignore[union-attr]
        code, said = commands.ask(step.words, disk)
        assert code == 0, f"with room: exit code {code}, {said[-300:]}"
    half = [path for path in disk.root.rglob("*") if HALF.fullmatch(path.name) and path.is_file()]
    half += [path for path in (disk.root / "data" / "temporary").rglob("*") if path.is_file()]
    assert not half, f"half written: {half[0]}"
    _undo(step)


def _check_said(code: int, said: str) -> None:
    lines = [line for line in said.splitlines() if line.startswith("covseg: ")]
    assert code == 2, f"exit code {code}: {said[-300:]}"
    assert "Traceback" not in said, said[-400:]
    assert len(lines) == 1, f"not one line: {said[-300:]}"


def _check_kept(before: dict[str, str], after: dict[str, str]) -> None:
    for name, digest in before.items():
        assert name in after, f"{name} is lost"
        if Path(name).name not in WRITTEN_AGAIN:
            assert after[name] == digest, f"{name} was changed"
        elif name.endswith(".json"):
            json.loads((data_root().parent / name).read_bytes())


def _content(root: Path) -> dict[str, str]:
    """SHA-256 of each file but of locks and of what can be made again at any time."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "filler"]
    kept = [path for path in files if "cache" not in path.parts and "temporary" not in path.parts]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def _train(disk: _Disk, commands: _Commands, chance: random.Random) -> None:
    """It fails in words, or is lost where not even those find room, and can be resumed."""
    before = _content(disk.root)
    known = {run.id for run in list_runs()}
    disk.fill(chance.randrange(400_000))
    try:
        code, said = commands.ask(TRAINING, disk)
        runs = [run for run in list_runs() if run.id not in known]
        states = [(run.status.state, run.status.reason) for run in runs]
    finally:
        disk.free()
    disk.failed = code != 0
    try:
        _check_kept(before, _content(disk.root))
        if not runs:
            _check_said(code, said)
            return
        [(state, reason)] = states
        assert "Traceback" not in said, said[-400:]
        assert state in ("failed", "lost", "finished"), f"{state}: {said[-300:]}"
        assert "\n" not in reason, reason
        if state != "finished":
            assert code in (1, 2), f"exit code {code} of a training that {state}"
            _resumed(runs[0])
    finally:
        for run in runs:
            shutil.rmtree(run.folder)


def _resumed(run: Run) -> None:
    jobs.resume(run)
    jobs.wait([run])
    assert run.status.state == "finished", f"with room: {run.status.state}, {run.log.read_text()[-300:]}"


class _Commands:
    """A process that has imported what commands need, and forks for each."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, words: list[str], disk: _Disk) -> tuple[int, str]:
        """Exit code, and what was said on both channels."""
        told = disk.root.parent / "said"
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([words, str(told), disk.limit]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that runs commands has ended"
        return int(answer), told.read_text(errors="replace")


@contextlib.contextmanager
def _commands() -> Iterator[_Commands]:
    command = [sys.executable, "-m", "campaigns.disk"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        yield _Commands(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    """That process."""
    import covseg_core.cli.data
    import covseg_core.cli.evaluate
    import covseg_core.cli.evidence
    import covseg_core.cli.predict
    import covseg_core.cli.train
    import covseg_core.evidence.bundle
    import covseg_core.prediction.predict  # noqa: F401

    for line in sys.stdin:
        words, told, limit = json.loads(line)
        child = os.fork()
        if not child:
            _command(words, told, limit)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _command(words: list[str], told: str, limit: int) -> None:
    """In the child: as `covseg` does it."""
    from covseg_core.cli import main as covseg

    out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for channel in (1, 2):
        os.dup2(out, channel)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    sys.argv = ["covseg", *words]
    code: object = 0
    try:
        covseg()
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
