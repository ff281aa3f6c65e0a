"""A SLURM of two nodes on this machine, for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onecluster
import pytest
from onecluster import Cluster, cluster

from covseg_core.places import slurm
from covseg_core.runs import liveness


@pytest.fixture(scope="session")
def _one_cluster() -> Iterator[Cluster]:
    if reason := onecluster.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="covseg-slurm-") as folder, cluster(Path(folder)) as one:
        yield one


@pytest.fixture
def nodes(_one_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, checkpoints_folder: Path) -> Iterator[Cluster]:
    """Both idle. Places: `two` trains there, `held` takes jobs that do not begin. What is lost is lost after 5 s."""
    monkeypatch.setenv("SLURM_CONF", str(_one_cluster.configuration))
    monkeypatch.setenv("PATH", onecluster.PATH)
    monkeypatch.setattr(slurm, "_KEPT", 0.2)
    monkeypatch.setattr(slurm, "_KEPT_SILENCE", 0.2)
    monkeypatch.setattr(slurm, "_PATIENCE", 10.0)
    monkeypatch.setattr(liveness, "SILENT_AFTER", 5.0)
    slurm.forget()
    checkpoints_folder.mkdir(exist_ok=True)
    (checkpoints_folder / "places.toml").write_text(
        "[two]\npartition = 'main'\n[held]\npartition = 'main'\noptions = ['--hold']\n"
    )
    _one_cluster.until_idle()
    yield _one_cluster
    _one_cluster.cancel_all()
    slurm.forget()
