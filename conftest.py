"""What a run of tests does not even import, and what examples in docstrings get; fixtures: tests/conftest.py."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
TRAINS = re.compile(r"^pytestmark = .*\bmark\.training\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Modules without an example; and what `-m` leaves out as a whole, because Keras alone takes seconds to import."""
    chosen = str(config.getoption("markexpr"))
    if "not browser" in chosen and collection_path == ROOT / "tests" / "browser":
        return True
    if collection_path.suffix != ".py" or not collection_path.is_file():
        return None
    text = collection_path.read_text(encoding="utf-8")
    if collection_path.is_relative_to(ROOT / "covseg_core"):
        return ">>> " not in text or None
    return ("not training" in chosen and TRAINS.search(text) is not None) or None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, with every worker: at the end, the others would wait for it.

    Workers of pytest-xdist get equal parts of the list, one after another, and then take from the ends of each other's.
    """
    items.sort(key=_patience, reverse=True)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # modules stay whole, because tests share fixtures and imports, but for those whose tests take a minute each
    groups = [
        list(group) for _, group in itertools.groupby(items, lambda item: item if _patience(item)[0] else item.path)
    ]
    long = sum(any(_patience(group[0])) for group in groups)
    short = [item for group in groups[long:] for item in group]
    ends = [len(short) * number // workers for number in range(workers + 1)]
    items.clear()
    for number in range(workers):
        items += [item for group in groups[number:long:workers] for item in group]
        items += short[ends[number] : ends[number + 1]]


def _patience(item: pytest.Item) -> tuple[float, bool, bool]:
    timeout, training, browser = (item.get_closest_marker(name) for name in ("timeout", "training", "browser"))
    return timeout.args[0] if timeout else 0, training is not None, browser is not None


@pytest.fixture(autouse=True)
def _folder_of_the_example(request: pytest.FixtureRequest) -> None:
    """The example of the Python API runs where a scan lies, in folders of its own, with the models that are shipped."""
    if not isinstance(request.node, pytest.DoctestItem) or request.node.name != "covseg_core":
        return
    from covseg_core.data.phantom.phantom import write_sample

    folder, patch = request.getfixturevalue("tmp_path"), request.getfixturevalue("monkeypatch")
    write_sample(folder / "sample", scans=1, size=64, slices=8)
    next((folder / "sample").rglob("ct.nii.gz")).rename(folder / "scan.nii.gz")
    patch.setenv("COVSEG_DATA", str(folder / "data"))
    patch.delenv("COVSEG_PRETRAINED", raising=False)  # tests that ran before have set it
    patch.chdir(folder)
