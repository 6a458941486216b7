"""One Flink cluster for all tests here, with what submits to it and looks into it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from resubmit_api.launchers.flink import ENDED
from tests.conftest import running
from tests.servers import wait_until
from tests.servers.flink import Flink, TaskManager, WorkerPool, ZooKeeper, job_server_jar
from tests.servers.flink_rest import WholeRest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Cluster:
    """A JobManager with two TaskManagers of two slots each and a pool of workers beside them."""

    flink: Flink
    taskmanagers: Sequence[TaskManager]
    pool: WorkerPool
    rest: WholeRest
    environment: Sequence[str] | None = None
    """Where workers run; in the pool unless given."""

    @property
    def words(self) -> list[str]:
        """What a command needs to run on this cluster and wait for nothing."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master={self.flink.url}",
            f"--flink_job_server_jar={job_server_jar()}",
            *(self.environment or ("--environment_type=EXTERNAL", f"--environment_config={self.pool.url}")),
        ]

    def submit(self, command: str, *words: str, parallelism: int = 2, code: Path = ROOT) -> str:
        """Submit a streaming command and leave; returns Flink's id of the job."""
        job, _ = self.leave(command, *words, parallelism=parallelism, code=code)
        wait_until(lambda: self.rest.state(job) == "RUNNING", 240, "the job to run")
        return job

    def leave(self, command: str, *words: str, parallelism: int, code: Path = ROOT) -> tuple[str, str]:
        """Submit a streaming command; returns Flink's id of the job and what was said."""
        name = f"{command}-{uuid.uuid4().hex[:8]}"
        own = ["--no_wait_until_finish", f"--job_name={name}", f"--parallelism={parallelism}"]
        told = _run(command, *words, *self.words, *own, code=code)
        job = self.rest.find(name)
        assert job is not None, f"no job of that name: {told}"
        return job, told

    def restore(self, savepoint: str, jar: Path, command: str, *words: str, parallelism: int = 2) -> str:
        """Write a streaming command's jar and run it from a savepoint; returns Flink's id of the job."""
        _run(command, *words, *self.words, f"--output_executable_path={jar}")
        uploaded = self.rest.upload(jar)
        job = self.rest.run(uploaded, parallelism=parallelism, savepoint=savepoint)
        self.rest.delete(uploaded)
        wait_until(lambda: self.rest.state(job) == "RUNNING", 240, "the job to run")
        assert self.rest.checkpoints(job)["latest"]["restored"]["external_path"] == savepoint
        return job

    def cancel(self, job: str) -> None:
        """Cancel a job, which must end by it."""
        self.rest.cancel(job)
        self.wait(job, "CANCELED")

    def wait(self, job: str, state: str, seconds: float = 240.0) -> None:
        """Return once a job has ended, which must be in this state."""
        wait_until(lambda: self.rest.state(job) in ENDED, seconds, f"job {job} to end")
        assert self.rest.state(job) == state, self.rest.failure(job)

    def workers(self) -> list[psutil.Process]:
        """Beam's Python workers, children of the pool."""
        below = psutil.Process(self.pool.pid).children(recursive=True)
        return [process for process in below if "sdk_worker" in _command_line(process)]

    def kill_workers(self) -> int:
        """Kill them all; returns how many were there."""
        workers = self.workers()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        return len(workers)

    def cancel_all(self) -> None:
        """Leave the slots to the next test."""
        for job in self.rest.running():
            self.cancel(job)


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""  # it has just ended


def _run(command: str, *words: str, code: Path = ROOT) -> str:
    # The release that tests keep has no module of the whole package.
    module = ("pipelines", command) if code == ROOT else (f"pipelines.{command}",)
    done = subprocess.run(
        [sys.executable, "-m", *module, *words],
        cwd=code,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeper]:
    yield from running(ZooKeeper)


@pytest.fixture(scope="session")
def whole_cluster(zookeeper: ZooKeeper) -> Iterator[Cluster]:
    with (
        Flink(zookeeper) as flink,
        TaskManager(flink) as one,
        TaskManager(flink) as two,
        WorkerPool() as pool,
    ):
        yield Cluster(flink, (one, two), pool, WholeRest(flink.url))


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    yield whole_cluster
    whole_cluster.cancel_all()
