"""Apache Flink: a JobManager, its TaskManagers, ZooKeeper beside it, and Beam's worker pool."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import requests

from tests.servers import Server, free_port
from tests.servers._flink_jars import flink_jars, job_server_jar
from tests.servers._java import java

__all__ = ["Flink", "TaskManager", "WorkerPool", "ZooKeeper", "job_server_jar"]

_ROOT = Path(__file__).resolve().parents[2]
_OPENS = [
    f"--add-{kind}={module}=ALL-UNNAMED"
    for kind, modules in {
        "exports": ["java.base/sun.net.util", "java.security.jgss/sun.security.krb5"],
        "opens": [
            *(
                f"java.base/java.{package}"
                for package in ("lang", "net", "io", "nio", "text", "time", "util")
            ),
            *(f"java.base/java.util.concurrent{package}" for package in ("", ".atomic", ".locks")),
            "java.base/java.lang.reflect",
        ],
    }.items()
    for module in modules
]
_SHORT_LIVED = "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"
_LOGGING = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""
# What Flink's own scripts would derive from one size; small, since all slots share a test's machine.
_MEMORY = {
    "taskmanager.cpu.cores": "2.0",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "384m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}


class ZooKeeper(Server):
    """What a JobManager that is lost leaves its jobs to; Flink brings its own."""

    name: ClassVar[str] = "zookeeper"

    @classmethod
    def install(cls) -> None:
        """Fetch Flink, and all that its cluster needs."""
        Flink.install()

    @property
    def url(self) -> str:
        """``host:port``, as Flink takes it."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the configuration, without its HTTP server."""
        settings = {
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "dataDir": self.data / "zookeeper",
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "ruok",
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.data / "zoo.cfg").write_text("".join(lines))
        (self.data / "conf").mkdir(exist_ok=True)
        (self.data / "conf" / "log4j.properties").write_text(_LOGGING)

    def command(self) -> Sequence[str]:
        """One process, no quorum."""
        entry = "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer"
        config = str(self.data / "zoo.cfg")
        return [*_java(self, "-Xmx64m"), entry, "--zkConfigFile", config, "--peerId", "1"]

    def answers(self) -> bool:
        """Whether it says that it is well."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"


class Flink(Server):
    """A JobManager that takes jobs over REST; each ``TaskManager`` gives it two slots.

    Args:
        zookeeper: where its jobs outlive it; unless given, they end with it.
    """

    name: ClassVar[str] = "flink"

    def __init__(self, zookeeper: ZooKeeper | None = None) -> None:
        super().__init__()
        self._zookeeper = zookeeper
        self.rpc_port = free_port()

    @classmethod
    def install(cls) -> None:
        """Fetch Flink and put the job server together."""
        flink_jars()
        job_server_jar()

    @property
    def url(self) -> str:
        """The REST address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def savepoints(self) -> Path:
        """Where savepoints are put unless another place is named."""
        return self.data / "savepoints"

    def prepare(self) -> None:
        """Write the configuration, which TaskManagers read too."""
        conf = self.data / "conf"
        conf.mkdir(exist_ok=True)
        settings = {**self._settings(), **self._high_availability(), **_MEMORY}
        (conf / "config.yaml").write_text(
            "".join(f"{name}: {json.dumps(v)}\n" for name, v in settings.items())
        )
        (conf / "log4j.properties").write_text(_LOGGING)

    def command(self) -> Sequence[str]:
        """One process; with ZooKeeper jobs go on when the next one is there."""
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        return [
            *_java(self, "-Xmx640m", "-XX:MaxMetaspaceSize=384m"),
            entry,
            "--configDir",
            str(self.data / "conf"),
        ]

    def answers(self) -> bool:
        """Whether it tells what it runs on."""
        return requests.get(f"{self.url}/v1/overview", timeout=2).ok

    def _settings(self) -> Mapping[str, str]:
        return {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": str(self.rpc_port),
            "jobmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": str(self.port),
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": "2",
            "cluster.evenly-spread-out-slots": "true",
            "state.checkpoints.dir": f"file://{self.data}/checkpoints",
            "state.savepoints.dir": f"file://{self.savepoints}",
            "io.tmp.dirs": str(self.data),
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "1000",
            "restart-strategy.fixed-delay.delay": "1 s",
            "heartbeat.timeout": "10000",
            "heartbeat.interval": "2000",
            "web.refresh-interval": "1000",
        }

    def _high_availability(self) -> Mapping[str, str]:
        if self._zookeeper is None:
            return {}
        return {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": self._zookeeper.url,
            "high-availability.zookeeper.client.session-timeout": "10000",
            "high-availability.storageDir": f"file://{self.data}/ha",
        }


class TaskManager(Server):
    """Two slots of a JobManager's cluster."""

    name: ClassVar[str] = "taskmanager"

    def __init__(self, flink: Flink) -> None:
        super().__init__()
        self._flink = flink
        self._starts = 0

    @property
    def url(self) -> str:
        """Of the cluster."""
        return self._flink.url

    def prepare(self) -> None:
        """Take a name that the one before did not have: a killed one stays on the list for a while."""
        self._starts += 1

    def command(self) -> Sequence[str]:
        """One process; kill it, and its JobManager learns of it from a connection or a heartbeat lost."""
        memory = "-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m", "-XX:MaxMetaspaceSize=512m"
        words = [*_java(self._flink, *memory), "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"]
        place = {"io.tmp.dirs": str(self.data), "taskmanager.resource-id": self._id}
        settings = [word for name, value in place.items() for word in ("-D", f"{name}={value}")]
        # Workers that it starts itself leave files in the directory that it is started in.
        return ["env", "-C", str(self.data), *words, "--configDir", str(self._flink.data / "conf"), *settings]

    def answers(self) -> bool:
        """Whether it has registered."""
        listed = requests.get(f"{self.url}/v1/taskmanagers", timeout=5).json()["taskmanagers"]
        return any(one["id"] == self._id for one in listed)

    @property
    def _id(self) -> str:
        return f"taskmanager-{self.port}-{self._starts}"


class WorkerPool(Server):
    """Beam's pool of Python workers, as it stands beside a TaskManager: ``--environment_type=EXTERNAL``.

    Args:
        code: the directory whose packages the workers import; this project's unless given.
    """

    name: ClassVar[str] = "worker-pool"

    def __init__(self, code: Path = _ROOT) -> None:
        super().__init__()
        self._code = code

    @property
    def url(self) -> str:
        """``host:port``, as ``--environment_config`` takes it."""
        return f"127.0.0.1:{self.port}"

    def environment(self) -> Mapping[str, str]:
        """The pool starts ``python``, which must be ours."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path}

    def command(self) -> Sequence[str]:
        """The pool and its workers are one process group."""
        pool = "apache_beam.runners.worker.worker_pool_main"
        # Workers look into the directory that they are started in before anything else.
        return ["env", "-C", str(self._code), sys.executable, "-m", pool, "--service_port", str(self.port)]

    def answers(self) -> bool:
        """Whether it listens; the port was free before."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


def _java(server: Server, *options: str) -> list[str]:
    """Java with Flink's classes."""
    log = f"-Dlog4j2.configurationFile=file://{server.data}/conf/log4j.properties"
    classes = str(flink_jars() / "*")
    return [java(), *_SHORT_LIVED, *_OPENS, log, *options, "-cp", classes]
