"""What limits many trainings on many devices: a simulation, for clusters larger than the one at hand.

    python benchmarks/scheduler.py [--seed 0]

From 1 to 256 devices and 15 to 1,500 runs, with what was measured (time between two jobs, seconds of an epoch, bytes
that it saves) and what was assumed (20 s from a job's start to the first step; a file server of 1 GB/s, of which one
writer gets 0.5; a device that fails every ten days; jobs of four hours). It tells of the devices' time: how much of it
trains, starts, waits for the file server, is done twice after a failure, and has no run.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

try:
    import simpy
except ImportError:
    print("left out: needs simpy, of requirements-dev.txt")
    sys.exit(0)

DAY = 86400.0


@dataclass(frozen=True)
class Load:
    """A kind of training."""

    name: str
    epochs: int
    epoch: float
    """Of training [s]."""
    saved: float
    """After each epoch: weights, optimizer and best weights [bytes]."""
    start: float = 20.0
    """Until the first step: framework, slices, compiling [s]."""
    end: float = 15.0
    """Export and evaluation [s]."""


@dataclass(frozen=True)
class Cluster:
    """What the runs get."""

    devices: int
    between: float = 1.0
    """Jobs on a device [s]: measured on SLURM."""
    again: float = 120.0
    """For which SLURM holds back a job whose node failed [s]."""
    fails: float = 10 * DAY
    """A device, on average [s]."""
    limit: float = 4 * 3600.0
    """Of a job [s]."""
    streams: int = 2
    stream: float = 0.5e9
    """Bytes a second of each of the file server's streams."""


THESIS_FAST = Load("paper, H100", epochs=100, epoch=0.28, saved=4 * 7_759_521 * 4)
STANDARD = Load("standard, 15 s an epoch", epochs=100, epoch=15.0, saved=4 * 1_940_817 * 4)
LONG = Load("robust, 5 min an epoch", epochs=150, epoch=300.0, saved=4 * 1_100_000 * 4)


@dataclass
class Told:
    """Seconds of the devices."""

    trained: float = 0.0
    started: float = 0.0
    files: float = 0.0
    twice: float = 0.0
    jobs: int = 0
    failures: int = 0
    makespan: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)


def simulate(load: Load, cluster: Cluster, runs: int, seed: int) -> Told:
    """All runs until the last one has finished."""
    world, chance, told = simpy.Environment(), random.Random(seed), Told()
    devices = simpy.Resource(world, cluster.devices)
    files = simpy.Resource(world, cluster.streams)

    def run() -> Generator[Any, Any, None]:
        done = 0
        while done < load.epochs:
            with devices.request() as device:
                yield device
                told.jobs += 1
                fails = world.now + chance.expovariate(1 / cluster.fails)
                ends = world.now + cluster.limit
                yield world.timeout(cluster.between + load.start)
                told.started += load.start
                failed = False
                while done < load.epochs and world.now + load.epoch < ends:
                    yield world.timeout(load.epoch)
                    began = world.now
                    with files.request() as stream:
                        yield stream
                        yield world.timeout(load.saved / cluster.stream)
                    told.files += world.now - began
                    if world.now > fails:
                        told.twice += load.epoch
                        failed = True
                        break
                    told.trained += load.epoch
                    done += 1
                if done == load.epochs:
                    yield world.timeout(load.end)
                    told.trained += load.end
            if failed:
                told.failures += 1
                yield world.timeout(cluster.again)

    for _ in range(runs):
        world.process(run())
    world.run()
    told.makespan = world.now
    whole = cluster.devices * world.now
    parts = {"trains": told.trained, "starts": told.started, "files": told.files, "twice": told.twice}
    told.shares = {name: seconds / whole for name, seconds in parts.items()}
    told.shares["no run"] = 1 - sum(told.shares.values())
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sleeping = Load("sleeps 10 s", epochs=1, epoch=10.0, saved=0.0, start=0.0, end=0.0)
    measured = simulate(sleeping, dataclasses.replace(Cluster(4), fails=1e12), 60, options.seed)
    print(f"60 jobs of 10 s on 4 slots: busy {measured.shares['trains']:.1%} (benchmarks/cluster.py measures it)\n")
    print("| training | devices | runs | hours | trains | starts | files | twice | no run | jobs a run |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for load in (STANDARD, LONG, THESIS_FAST):
        for devices, runs in ((1, 15), (4, 15), (4, 60), (16, 150), (64, 150), (64, 1500), (256, 1500)):
            told = simulate(load, Cluster(devices), runs, options.seed)
            cells = " | ".join(f"{share:.1%}" for share in told.shares.values())
            hours, jobs = told.makespan / 3600, told.jobs / runs
            print(f"| {load.name} | {devices} | {runs:,} | {hours:,.1f} | {cells} | {jobs:.2f} |")


if __name__ == "__main__":
    main()
