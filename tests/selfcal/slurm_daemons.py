"""A Slurm of one machine on loopback: munged, slurmctld and slurmd, started and ended by tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_PATIENCE_S = 40.0

_CONF = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=2
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 \
RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return the programs of Slurm and MUNGE that are not installed."""
    return [name for name in PROGRAMS if _program(name) is None]


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        found = []
        for _ in range(count):
            one = opened.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(int(one.getsockname()[1]))
        return found


@contextmanager
def slurm(folder: Path) -> Iterator[Mapping[str, str]]:
    """Run the daemons; yield the environment in which Slurm's commands find them.

    Raises
    ------
    RuntimeError
        No node becomes idle.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=host, ports=_free_ports(2), folder=folder))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munge = ["munged", "-F", "--force"]
    for option, name in (("key-file", "munge.key"), ("socket", "munge.socket"),
                         ("pid-file", "munged.pid"), ("log-file", "munged.log"),
                         ("seed-file", "munged.seed")):  # fmt: skip
        munge += [f"--{option}", str(folder / name)]
    with ExitStack() as running:
        running.enter_context(_daemon(munge, folder, environment))
        _until(lambda: (folder / "munge.socket").exists(), "munged makes no socket")
        for name in ("slurmctld", "slurmd"):
            running.enter_context(_daemon([name, "-D", "-f", str(conf)], folder, environment))
        _until(lambda: "idle" in _asked("sinfo", environment), "no node of Slurm becomes idle")
        yield environment


@contextmanager
def cluster_file(folder: Path) -> Iterator[Path]:
    """Run the daemons, where Slurm's commands of this process find them; yield a ``slurm.yaml``.

    The test is skipped where something is not installed, or where it does not run as root.
    """
    pytest.importorskip("dask_jobqueue")
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd munge)")
    if os.geteuid() != 0:
        pytest.skip("munged and slurmd are started as root")
    with pytest.MonkeyPatch.context() as patch, slurm(folder) as environment:
        patch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        path = folder / "slurm.yaml"
        path.write_text(
            "cores: 1\nmemory: 1GB\nwalltime: '00:05:00'\ninterface: lo\njobs: 2\n"
            f"local_directory: {folder}\nlog_directory: {folder}\n"
        )
        yield path


def _asked(name: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [str(_program(name)), "-h"], env=dict(environment), capture_output=True, text=True
    )
    return done.stdout


def _until(true: object, otherwise: str) -> None:
    assert callable(true)
    end = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.2)


@contextmanager
def _daemon(argv: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / f"{argv[0]}.out").open("wb") as stream:
        process = subprocess.Popen(
            [str(_program(argv[0])), *argv[1:]], env=dict(environment), stdout=stream,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
