"""What the examples in docstrings get; fixtures of tests are in tests/conftest.py."""

from __future__ import annotations

import pytest


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
    patch.chdir(folder)
