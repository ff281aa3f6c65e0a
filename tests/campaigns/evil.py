"""Evidence bundles that somebody has made to do harm, or to prove what is not so."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from evilmodels import EVIL, save_evil
from fakeruns import SIZE, fake_run
from onnx import ModelProto, helper, load_from_string

from campaigns.fuzz import CHANGES
from campaigns.row import Row
from covseg_core import isolation
from covseg_core.config import THESIS, SplitConfig
from covseg_core.data.library.importing import import_sample
from covseg_core.errors import CovsegError
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.model import single_runs
from covseg_core.evidence.bundle import COMPARISON, EVALUATION, MANIFEST, write_bundle
from covseg_core.evidence.verify import verify_bundle
from covseg_core.temporary import temporary_root

WHAT = (
    "a bundle with changed figures, swapped or damaged files, names that lead elsewhere, links, bombs, or models that"
)
WHAT += " loop or swell is verified: one line or other numbers, never success for changed figures, nothing outside or"
WHAT += " left, at most 1.6 GB in the other process"
FULL, SMALL, SECONDS, TRAINS = 300, 2, 2 * 3600, False
LONGEST = 120.0
"""Seconds by the clock for one."""
MEMORY = 1.6e9
"""Bytes that any process which this one has started has had in memory."""
HERE = 150e6
"""Bytes that this process may grow by."""

Files = dict[str, bytes]
"""Of a bundle: name -> content."""


def run(count: int, seed: int) -> Row:
    """All kinds in turns, on one honest bundle; every twentieth is left as it is, and agrees."""
    row, agreed, others = Row(), 0, _most_memory()
    with tempfile.TemporaryDirectory(prefix="covseg-evil-") as made:
        folder = Path(made)
        honest = _honest(folder)
        isolation.warm("covseg_core.evidence.verify")
        try:
            before, longest = psutil.Process().memory_info().rss, 0.0
            for number in range(count):
                chance = random.Random(f"{seed} {number}")
                kind = "none" if number % 20 == 19 else list(KINDS)[(number + seed) % len(KINDS)]
                started = time.monotonic()
                row.attempt(
                    f"bundle {number} of seed {seed}, {kind}",
                    lambda kind=kind, chance=chance: _one(folder, honest, kind, chance),  # type: ignore[misc]
                )
                longest = max(longest, time.monotonic() - started)
                agreed += kind == "none"
        finally:
            isolation.rest()
    used = _most_memory()
    grown = psutil.Process().memory_info().rss - before
    if used > max(MEMORY, others, _own_memory()) or grown > HERE:
        row.failures.append(f"{used / 1e6:,.0f} MB in another process, {grown / 1e6:,.0f} MB more in this one")
    row.note = f"{agreed} left as they were agreed; longest {longest:.1f} s, most memory {used / 1e6:,.0f} MB"
    return row


def _most_memory() -> int:
    """Bytes that any process had in memory which this one has started, and which has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _own_memory() -> int:
    """Bytes that this process has had in memory. Linux counts them for what it starts, too, as a child begins so."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _honest(folder: Path) -> Files:
    """Three models that see infection above another grey value each."""
    dataset = import_sample("phantoms", scans=5, size=48)
    split = SplitConfig(fractions=(0.4, 0.2, 0.4))
    runs = [fake_run(dataset, f"first-{metric}", metric, split, 90 + 20 * k) for k, metric in enumerate(THESIS)]
    write_bundle(single_runs(runs), evaluate_runs(runs), folder / "evidence.zip")
    with zipfile.ZipFile(folder / "evidence.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _one(folder: Path, honest: Files, kind: str, chance: random.Random) -> None:
    path = folder / "evil.zip"
    before = _everything(folder)
    files = dict(honest)
    KINDS.get(kind, _write)(path, files, chance)
    started = time.monotonic()
    try:
        found = verify_bundle(path)
    except CovsegError as error:
        assert kind != "none", f"an honest bundle: {error}"
        assert "\n" not in str(error), f"several lines: {error!r}"
        assert len(str(error)) < 1000, f"a line of {len(str(error)):,} characters"
    else:
        figures = path.exists() and _figures(path) == _figures_of(honest)
        assert figures or not found.agrees, "the figures were changed, and it says that they agree"
        assert found.agrees or kind != "none", "an honest bundle does not agree"
    finally:
        path.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    assert seconds < LONGEST, f"took {seconds:.0f} s"
    assert _everything(folder) == before, f"something was written: {_everything(folder) ^ before}"
    left = [each for each in temporary_root().rglob("*") if each.is_file()]
    assert not left, f"left behind: {left[0]}"


def _everything(folder: Path) -> set[Path]:
    """Files where a name that leads out of a bundle would put one."""
    places = [folder, folder.parent, *temporary_root().parents[:2], Path("/tmp")]
    names = {path for place in places for path in place.glob("*evil*") if path != folder and path.name != "evil.zip"}
    return names | set(folder.rglob("*"))


def _figures(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return _figures_of({name: archive.read(name) for name in archive.namelist()})


def _figures_of(files: Files) -> Any:
    """All that is said about models."""
    own = {name: json.loads(content) for name, content in files.items() if name.endswith(EVALUATION)}
    return json.loads(files[COMPARISON])["evaluations"], own


def _write(path: Path, files: Files, chance: random.Random | None = None, told: bool = True) -> None:
    """The zip; `told`: its manifest knows of all that is in it."""
    if told and MANIFEST in files:
        manifest = json.loads(files[MANIFEST])
        manifest["files"] = {n: hashlib.sha256(content).hexdigest() for n, content in files.items() if n != MANIFEST}
        files[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _damaged_zip(path: Path, files: Files, chance: random.Random) -> None:
    _write(path, files)
    path.write_bytes(chance.choice(CHANGES)(path.read_bytes(), chance))


def _damaged_file(path: Path, files: Files, chance: random.Random) -> None:
    """One that is read, and its manifest knows of it."""
    name = chance.choice([name for name in files if name.startswith("runs/") or name in (COMPARISON, MANIFEST)])
    files[name] = chance.choice(CHANGES)(files[name], chance)
    _write(path, files, told=name != MANIFEST)


def _untold(path: Path, files: Files, chance: random.Random) -> None:
    """A file changed, without its manifest."""
    name = chance.choice([name for name in files if name != MANIFEST])
    files[name] = files[name] + b" "
    _write(path, files, told=False)


def _better(path: Path, files: Files, chance: random.Random) -> None:
    """A figure is changed everywhere where it stands."""
    where = chance.choice([("model", "pooled"), ("model", "means"), ("own",), ("model", "slices")])
    number = chance.randrange(3)

    def change(evaluation: dict[str, Any]) -> None:
        place = evaluation
        for key in where:
            place = place.get(key, place)
        place = chance_of(place)
        for name, value in place.items():
            if isinstance(value, float) and value < 0.9:
                place[name] = value + 0.05
                return
        evaluation["epochs"] += 1

    def chance_of(place: Any) -> dict[str, Any]:
        return place[0] if isinstance(place, list) else place

    comparison = json.loads(files[COMPARISON])
    change(comparison["evaluations"][number])
    files[COMPARISON] = json.dumps(comparison).encode()
    own = f"runs/{comparison['evaluations'][number]['run']}/{EVALUATION}"
    if own in files and chance.random() < 0.5:
        files[own] = json.dumps(comparison["evaluations"][number]).encode()
    _write(path, files)


def _swapped(path: Path, files: Files, chance: random.Random) -> None:
    """Two models change places."""
    one, other = chance.sample(THESIS, 2)
    names = [f"runs/first-{metric}/model.onnx" for metric in (one, other)]
    files[names[0]], files[names[1]] = files[names[1]], files[names[0]]
    _write(path, files)


NAMES = (
    "../evil", "../../evil", "/tmp/evil", "runs/../../evil", "..\\evil", "C:/evil", "a/" * 1500 + "evil", "e" * 60_000,
    "runs/first-dice/../../../evil", "evil\x1b[2J", "CON:evil", "Runs/first-dice/config.json", "runs", ".", "//",
)  # fmt: skip


def _names(path: Path, files: Files, chance: random.Random) -> None:
    files[chance.choice(NAMES)] = b"evil"
    _write(path, files)


def _run_names(path: Path, files: Files, chance: random.Random) -> None:
    """The manifest names runs that are elsewhere."""
    manifest = json.loads(files[MANIFEST])
    manifest["runs"][chance.randrange(3)] = chance.choice(
        ["../../..", "/etc", ".", "", "x" * 10**6, "first-dice", "a\nb"]
    )
    files[MANIFEST] = json.dumps(manifest).encode()
    _write(path, files)


def _link(path: Path, files: Files, chance: random.Random) -> None:
    _write(path, files)
    entry = zipfile.ZipInfo(chance.choice(["runs/first-dice/x", "evil", "runs/first-dice/pace.json"]))
    entry.external_attr = (chance.choice([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR]) | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, chance.choice(["/etc/passwd", "../../../..", "/dev/zero"]))


def _bomb(path: Path, files: Files, chance: random.Random) -> None:
    """Zeros, or a directory that says more than there is, or thousands of files."""
    kind = chance.randrange(3)
    if kind == 0:
        files["zeros"] = bytes(200 * 2**20)
    elif kind == 1:
        files |= {f"empty/{number}": b"" for number in range(10_001)}
    _write(path, files, told=kind != 0)
    if kind == 2:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("claims", bytes(1000))
            archive.getinfo("claims").file_size = chance.choice([5 * 2**30, 2**31, 10**6])


def _wide_json(path: Path, files: Files, chance: random.Random) -> None:
    """Deep, long, or with numbers beyond all measure."""
    name = chance.choice([MANIFEST, COMPARISON, "runs/first-dice/config.json", "runs/first-dice/split.json"])
    kind = chance.randrange(5)
    if kind == 0:
        files[name] = b"[" * 10**6 + b"]" * 10**6
    elif kind == 1:
        files[name] = b'{"x": "' + b"x" * (40 * 2**20) + b'"}'
    elif kind == 2:
        files[name] = b"[" + b"0," * (5 * 10**6) + b"0]"
    else:
        value = json.loads(files[name])
        numbers = [1e308, -1, 10**18, 10**400, "NaN", None, 2**63, [], {}]
        for _ in range(chance.choice([1, 5])):
            _somewhere(value, chance.choice(numbers), chance)
        files[name] = json.dumps(value).encode()
    _write(path, files, told=name != MANIFEST)


def _somewhere(value: Any, put: Any, chance: random.Random) -> None:
    """One of the values in it becomes another."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if not isinstance(value[key], dict | list) or chance.random() < 0.2:
            value[key] = put
            return
        value = value[key]


def _settings(path: Path, files: Files, chance: random.Random) -> None:
    """Settings of the largest networks and slices for a small model; a split that names every slice often."""
    name = f"runs/first-{chance.choice(THESIS)}/{chance.choice(['config.json', 'config.json', 'split.json'])}"
    value = json.loads(files[name])
    if name.endswith("config.json"):
        value["prepare"] |= chance.choice([{"size": 1024}, {"context": 5}, {"region": "lungs"}, {"size": 16}])
        value["model"] |= {"filters": 256}
        value["dataset"] = chance.choice(["phantoms", "../phantoms", "other"])
    else:
        test = value["test"]
        for id in test:
            test[id] = test[id] * chance.choice([2, 10**5]) + chance.choice([[], [-1], [10**9]])
    files[name] = json.dumps(value).encode()
    _write(path, files)


def _swelling_model(path: Path, files: Files, chance: random.Random) -> None:
    model = path.with_name("swelling.onnx")
    save_evil(model, chance.choice(EVIL), SIZE)
    files[f"runs/first-{chance.choice(THESIS)}/model.onnx"] = model.read_bytes()
    model.unlink()
    _write(path, files)


def _odd_model(path: Path, files: Files, chance: random.Random) -> None:
    """What no export writes."""

    def loop(model: ModelProto) -> None:
        body = helper.make_graph([helper.make_node("Identity", ["going"], ["still"])], "body",
                                 [helper.make_tensor_value_info("i", 7, []),
                                  helper.make_tensor_value_info("going", 9, [])],
                                 [helper.make_tensor_value_info("still", 9, [])])  # fmt: skip
        model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))

    def huge(model: ModelProto) -> None:
        model.graph.initializer.add(name="w", data_type=1, dims=[2**30, 2**30], raw_data=b"1234")

    def elsewhere(model: ModelProto) -> None:
        tensor = model.graph.initializer.add(name="w", data_type=1, dims=[2], data_location=1)
        tensor.external_data.add(key="location", value="../../../../etc/passwd")

    def unknown(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node(chance.choice(["If", "Scan", "Tile"]), ["grey"], ["x"]))

    def batch(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 10**9

    name = f"runs/first-{chance.choice(THESIS)}/model.onnx"
    model = load_from_string(files[name])
    chance.choice([loop, huge, elsewhere, unknown, batch])(model)
    files[name] = model.SerializeToString()
    _write(path, files)


KINDS: dict[str, Callable[[Path, Files, random.Random], None]] = {
    "swelling model": _swelling_model,
    "better figures": _better,
    "names": _names,
    "damaged file": _damaged_file,
    "link": _link,
    "damaged zip": _damaged_zip,
    "bomb": _bomb,
    "wide JSON": _wide_json,
    "odd model": _odd_model,
    "swapped models": _swapped,
    "settings": _settings,
    "names of runs": _run_names,
    "untold": _untold,
}
