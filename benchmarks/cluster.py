"""What a cluster makes of many trainings: both nodes busy, and what covseg adds to the scheduler's own time.

    python benchmarks/cluster.py             60 jobs that only sleep, on 4 slots: how busy these are (8 minutes)
    python benchmarks/cluster.py --train     5 folds x 3 metrics with real trainings on 2 nodes (a quarter of an hour)

On a SLURM of two nodes on this machine, as in the tests; needs root and Debian's `slurm-wlm`. The goals are: slots busy
for over 95 % of the time, and less than 3 s a run beyond the scheduler's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "synthetic")]

import onecluster  # noqa: E402
from onecluster import Cluster, cluster  # noqa: E402

from covseg_core.data.library.importing import import_dataset  # noqa: E402
from covseg_core.data.phantom.phantom import write_sample  # noqa: E402
from covseg_core.runs import Run, jobs  # noqa: E402

RUNS, SECONDS = 60, 30
SLEEPER = """#!{python}
# In place of a training: takes the run's lock, sleeps, says that it has finished.
import dataclasses, os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
began = time.time()
from covseg_core.runs import Run
from covseg_core.runs.liveness import WorkerLock
run = Run(Path(sys.argv[3]))
WorkerLock(run.folder).take(60)
run.write_status(dataclasses.replace(run.written_status, state="running", pid=os.getpid(), process=""))
time.sleep({seconds} - (time.time() - began))
run.write_status(dataclasses.replace(run.written_status, state="finished"))
(run.folder / "times").write_text(f"{{began}} {{time.time()}}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each job that sleeps")
    options = parser.parse_args()
    if reason := onecluster.missing():
        print(f"left out: {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="covseg-cluster-") as name:
        folder = Path(name)
        os.environ |= {"COVSEG_DATA": str(folder / "data"), "COVSEG_CHECKPOINTS": str(folder / "runs")}
        os.environ["PATH"] = onecluster.PATH
        write_sample(folder / "sample", scans=10, size=64, slices=8)
        import_dataset("phantoms", [folder / "sample"], allow_empty=True)
        (folder / "runs").mkdir(exist_ok=True)
        with cluster(folder / "slurm", processors=1 if options.train else 2) as nodes:
            os.environ["SLURM_CONF"] = str(nodes.configuration)
            figures = training(folder, nodes) if options.train else sleeping(folder, options.seconds)
    print(json.dumps(figures, indent=2))


def sleeping(folder: Path, seconds: float) -> dict[str, float]:
    """Many short jobs: the shorter they are, the more what lies between them counts."""
    script = folder / "sleeper"
    script.write_text(SLEEPER.format(python=sys.executable, root=str(ROOT), seconds=seconds))
    script.chmod(0o755)
    (folder / "runs" / "places.toml").write_text(f"[four]\npartition = 'main'\npython = '{script}'\n")
    begun = time.time()
    runs = jobs.train("phantoms", ["accuracy", "iou", "dice"], seeds=RUNS // 3, epochs=1, place="four")
    sent = time.time()
    jobs.wait(runs)
    times = [tuple(map(float, (run.folder / "times").read_text().split())) for run in runs]
    first, last = min(start for start, _ in times), max(end for _, end in times)
    return {
        "runs": len(runs),
        "slots": 4,
        "seconds of each": seconds,
        "sending a run [s]": round((sent - begun) / len(runs), 3),
        "first job begins after [s]": round(first - begun, 2),
        "from first to last [s]": round(last - first, 1),
        "slots busy": round(sum(end - start for start, end in times) / (4 * (last - first)), 4),
    }


def training(folder: Path, nodes: Cluster) -> dict[str, object]:
    """The cross-validation of the how-to, with tiny networks."""
    (folder / "runs" / "places.toml").write_text("[two]\npartition = 'main'\n")
    begun = time.time()
    runs = jobs.train(
        "phantoms", ["accuracy", "iou", "dice"], folds=5, epochs=6, size=32, filters=2, batch=4, place="two"
    )
    sent = time.time()
    busy: list[int] = []
    waiting: dict[str, float] = {}
    overhead: list[float] = []

    def look() -> None:
        listed = nodes.call("squeue", "--noheader", "--format=%i %T %N")
        running = [line.split() for line in listed.splitlines() if " RUNNING " in line]
        if not all(run.written_status.state == "finished" for run in runs) and "PENDING" in listed:
            busy.append(len({node for *_, node in running}))
        for job, *_ in running:
            waiting.setdefault(job, time.time())
        for run in runs:
            _signed(run, waiting, overhead)

    jobs.wait(runs, look, poll=0.1)
    return {
        "runs": len(runs),
        "finished": sum(run.status.state == "finished" for run in runs),
        "sending a run [s]": round((sent - begun) / len(runs), 3),
        "all [s]": round(time.time() - begun, 1),
        "nodes busy while runs wait": round(sum(busy) / (2 * len(busy)), 4),
        "from the job's start to the worker's first word [s], median": round(statistics.median(overhead), 2),
    }


def _signed(run: Run, began: dict[str, float], found: list[float]) -> None:
    """Once for each run: how long its worker took to say that it is there."""
    job = run.placed.job
    if began.get(job, 0) > 0 and run.written_status.pid:
        found.append(time.time() - began[job])
        began[job] = -1


if __name__ == "__main__":
    main()
