"""A real SLURM of two nodes on this one machine: `with cluster(folder) as one: ...`, or `python onecluster.py FOLDER`.

Debian's package `slurm-wlm`, no accounting, no authentication, ports of its own; each node has one processor, so that
two jobs run and the third waits. For tests and trials only: whoever reaches its ports can run anything.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
"""Debian has the daemons where only root looks for them."""
NODES = ("n1", "n2")
CONFIGURATION = """
ClusterName=covseg
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdTimeout=10
KillWait=10
InactiveLimit=0
MinJobAge=10
JobRequeue=1
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=down Nodes=n1,n2 MaxTime=INFINITE State=DOWN
"""


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    commands = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel")
    gone = [name for name in commands if shutil.which(name, path=PATH) is None]
    if gone:
        return f"needs SLURM: no {gone[0]} here; as root, `apt-get install slurm-wlm`"
    return "" if os.geteuid() == 0 else "needs root, to start SLURM's daemons"


class Cluster:
    """Its daemons, as processes that can be killed."""

    def __init__(self, folder: Path, processors: int = 1) -> None:
        self.folder, self.processors = folder, processors
        self.configuration = folder / "slurm.conf"
        self.environment = os.environ | {"SLURM_CONF": str(self.configuration), "PATH": PATH}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Controller and nodes; returns when both nodes are idle."""
        for name in ("state", *NODES):
            (self.folder / name).mkdir(parents=True)
        ports = _free_ports(1 + len(NODES))
        text = CONFIGURATION.format(folder=self.folder, controller=ports[0])
        for name, port in zip(NODES, ports[1:], strict=True):
            text += f"NodeName={name} NodeHostname=localhost Port={port} CPUs={self.processors} "
            text += "RealMemory=4000 State=UNKNOWN\n"
        self.configuration.write_text(text)
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self.until_idle()

    def until_idle(self, seconds: float = 90.0) -> None:
        """Until both nodes can take a job."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.call("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T").split() == ["idle"] * 2:
                return
            time.sleep(0.2)
        logs = [file.read_text()[-1000:] for file in self.folder.glob("*.log")]
        raise RuntimeError("no cluster: " + "\n".join(logs))

    def call(self, *command: str) -> str:
        """What a command of SLURM prints, whether or not it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout

    def busy_nodes(self) -> set[str]:
        """Where jobs run."""
        return set(self.call("squeue", "--noheader", "--states=RUNNING", "--format=%N").split())

    def start_controller(self) -> None:
        self._daemon("slurmctld", "slurmctld", "-D")

    def start_node(self, name: str) -> None:
        self._daemon(name, "slurmd", "-N", name, "-D")

    def kill_controller(self) -> None:
        """As if its machine had lost its power."""
        self._kill("slurmctld")

    def kill_node(self, name: str, job: str) -> None:
        """The same of a node: the daemon, and the job that runs there with all its processes."""
        self._kill(name)
        inside = [process for process in psutil.process_iter() if _of_job(process, job, self.configuration)]
        for process in inside:
            with_ignored_end(process)

    def cancel_all(self) -> None:
        """Every job, and what is still in the way of the next test."""
        for name in NODES:
            if name not in self.daemons:
                self.start_node(name)
        if "slurmctld" not in self.daemons:
            self.start_controller()
        end = time.monotonic() + 60
        while self.call("squeue", "--noheader") and time.monotonic() < end:
            self.call("scancel", "--user=root")
            time.sleep(0.3)

    def stop(self) -> None:
        """Jobs first, then the daemons."""
        if self.configuration.exists() and "slurmctld" in self.daemons:
            self.cancel_all()
        for name in list(self.daemons):
            self._kill(name)

    def _daemon(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _kill(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()


def with_ignored_end(process: psutil.Process) -> None:
    """Kill it, unless it has just ended by itself."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


@contextmanager
def cluster(folder: Path, processors: int = 1) -> Iterator[Cluster]:
    """Started, and stopped whatever happens; so many jobs fit on each node."""
    one = Cluster(folder, processors)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def _of_job(process: psutil.Process, job: str, configuration: Path) -> bool:
    """Whether it is a process of this job, or the daemon that looks after it."""
    try:
        if process.name() == "slurmstepd":
            return f"[{job}." in " ".join(process.cmdline())
        environment = process.environ()
    except psutil.Error:
        return False
    return environment.get("SLURM_JOB_ID") == job and environment.get("SLURM_CONF") == str(configuration)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    """Until Ctrl+C."""
    if reason := missing():
        sys.exit(reason)
    folder = Path(sys.argv[1]).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    with cluster(folder) as one:
        print(one.call("sinfo"), end="")
        print(f"\nIn another shell: export SLURM_CONF={one.configuration}\nCtrl+C ends it.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
