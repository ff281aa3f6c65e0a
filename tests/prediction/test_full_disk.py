"""A disk that fills while models answer. What a user loses otherwise: the whole dashboard with everybody's predictions,
since a write to a memory map on a full disk ends the process (SIGBUS) where a write to a file is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from covseg_core.errors import CovsegError
from covseg_core.prediction.spool import Spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))  # as a disk with room for one more megabyte
folder = Path(sys.argv[1])
spool = Spool(folder, in_memory=0)
blocks = ((slice(z, z + 4), np.full((4, 64, 64), z, np.float32)) for z in range(0, 200, 4))
try:
    spool.keep(blocks, (200, 64, 64))
except CovsegError as error:
    print(error)
print(list(folder.iterdir()))
try:
    spool.keep_array(np.zeros(2**21, np.uint8))
except CovsegError as error:
    print(error)
print(list(folder.iterdir()))
kept = spool.keep(((slice(0, 4), np.ones((4, 64, 64), np.float32)) for _ in range(1)), (4, 64, 64))
print(kept[0:4].sum())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_is_an_error_of_one_answer_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    first, left, second, left_again, small = done.stdout.splitlines()
    assert first.startswith("prediction: no room for the models' answers (File too large)"), first
    assert second == "prediction: no room for the models' answers (disk full)"
    assert left == left_again == "[]"
    assert float(small) == 4 * 64 * 64, "a smaller one still finds its place"
