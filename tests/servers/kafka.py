"""Apache Kafka: one KRaft process, broker and controller in one."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.cimpl import NewTopic

from tests.servers import Server, fetch_once, free_port, run, tool, wait_until
from tests.servers._java import JAVA_LINE, java

__all__ = ["PASSWORD", "USER", "Kafka"]

VERSION = "4.1.2"
USER, PASSWORD = "persistor", "right-password"
"""Who may log in on the SASL listener (mechanism PLAIN)."""

# Serial collection and one compiler tier: a short-lived broker shares two cores with the tests.
_SHORT_LIVED = "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"
_POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>persistor</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
</dependency></dependencies></project>
"""
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
log.cleaner.backoff.ms=200
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
log.dirs={data}
"""


class Kafka(Server):
    """A broker with a plain and a SASL listener; topics are not created by themselves.

    Its logs survive ``kill``, as the page cache does; starting again takes about 3 s.

    Args:
        java: options of the virtual machine.

    Attributes:
        seeds: the brokers of its cluster, which has one unless told otherwise.
        together: brokers that it must see once it has started; 0 is all of its cluster.
        settings: more lines of its properties, which win.
        cluster: the identity of its cluster.
    """

    name = "kafka"

    def __init__(
        self, data: Path | None = None, port: int | None = None, java: Sequence[str] = _SHORT_LIVED
    ) -> None:
        super().__init__(data, port)
        self.sasl_port = free_port()
        self.controller_port = free_port()
        self.seeds = [self]
        self.settings = ""
        self.together = 0
        self.cluster = base64.urlsafe_b64encode(b"persistor" + os.urandom(7)).decode().rstrip("=")
        self._java = java

    @classmethod
    def install(cls) -> None:
        _classes()

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients of Kafka itself."""
        return ",".join(f"127.0.0.1:{seed.port}" for seed in self.seeds)

    @property
    def sasl_bootstrap(self) -> str:
        """``host:port`` of the listener that wants ``USER`` and ``PASSWORD``."""
        return ",".join(f"127.0.0.1:{seed.sasl_port}" for seed in self.seeds)

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}"

    def prepare(self) -> None:
        text = _PROPERTIES.format(
            port=self.port,
            sasl=self.sasl_port,
            controller=self.controller_port,
            user=USER,
            password=PASSWORD,
            data=self.data / "logs",
        )
        self._properties.write_text(text + self.settings)
        if not (self.data / "logs" / "meta.properties").exists():
            tool = [*self._program(*_SHORT_LIVED), "kafka.tools.StorageTool", "format"]
            run([*tool, f"--cluster-id={self.cluster}", "-c", str(self._properties)], cwd=self.data)

    def command(self) -> Sequence[str]:
        return [*self._program(*self._java), "kafka.Kafka", str(self._properties)]

    def _program(self, *options: str) -> list[str]:
        return _java(f"-XX:SharedArchiveFile={_classes()}", *options)

    def answers(self) -> bool:
        try:
            own = {"bootstrap.servers": f"127.0.0.1:{self.port}", "socket.timeout.ms": 1000}
            admin = self.admin(own)  # must outlive the request
            wanted = self.together or len(self.seeds)
            return len(admin.describe_cluster(request_timeout=1).result(60).nodes) >= wanted
        except (KafkaException, TimeoutError):
            return False

    @property
    def _properties(self) -> Path:
        return self.data / "server.properties"

    def admin(self, config: Mapping[str, Any] | None = None) -> AdminClient:
        """A client for what the helpers below do not do."""
        quiet = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        return AdminClient({**quiet, **(config or {})})

    def create_topic(
        self, topic: str, partitions: int = 1, replicas: Sequence[int] = (), **config: str | int
    ) -> str:
        """Create a topic, ``retention_ms=…`` for ``retention.ms``; returns its name once it is usable.

        Args:
            replicas: brokers that have all of its partitions, the first one leads; all brokers unless given.
        """
        settings = {name.replace("_", "."): str(value) for name, value in config.items()}
        admin = self.admin()
        where: dict[str, Any] = {"replication_factor": len(self.seeds)}
        if replicas:
            where = {"replica_assignment": [list(replicas)] * partitions}
        admin.create_topics([NewTopic(topic, partitions, config=settings, **where)])[topic].result(30)
        wait_until(lambda: self._has(admin, topic, partitions), 30, f"topic {topic}")
        return topic

    def delete_topic(self, topic: str) -> None:
        """Delete a topic and return once it is gone, so that the name can be used again."""
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(30)
        wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, 30, f"{topic} to go")

    def delete_topics(self) -> None:
        """Delete all topics but the broker's own, where it runs."""
        if not self._is_up():
            return
        admin = self.admin()
        topics = [topic for topic in admin.list_topics(timeout=10).topics if not topic.startswith("__")]
        for done in admin.delete_topics(topics).values() if topics else ():
            done.result(30)

    def produce(
        self, topic: str, messages: Iterable[Mapping[str, Any]], config: Mapping[str, Any] | None = None
    ) -> list[Message]:
        """Publish ``Producer.produce`` keyword sets; returns their acknowledgements, in that order.

        Raises:
            KafkaException: the first message that the broker did not acknowledge.
        """
        producer = Producer(self._producing(config))
        reports = _send(producer, topic, messages)
        producer.flush()
        return _acknowledged(reports)

    def produce_with_java(self, topic: str, keys: Iterable[bytes]) -> None:
        """Publish one message per key with Java's own producer and its defaults."""
        program = Path(__file__).with_name("JavaProducer.java")
        lines = "".join(f"{key.hex()}\n" for key in keys)
        command = [*_java(*_SHORT_LIVED), str(program), self.bootstrap, topic]
        subprocess.run(command, input=lines, text=True, check=True, capture_output=True, timeout=120)

    def produce_in_transaction(
        self, topic: str, messages: Iterable[Mapping[str, Any]], *, commit: bool = True
    ) -> None:
        """Publish in one transaction, which leaves a marker in each partition, and commit or abort it."""
        producer = Producer(self._producing({"transactional.id": f"tests-{topic}-{free_port()}"}))
        producer.init_transactions(30)
        producer.begin_transaction()
        _send(producer, topic, messages)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.flush()
            producer.abort_transaction(30)

    def settle(self, topic: str) -> None:
        """Return once no transaction of a topic is open.

        A producer's commit returns when it is decided; readers of what is committed see it a little later.
        """
        admin = self.admin()
        partitions = admin.list_topics(topic, timeout=20).topics[topic].partitions
        places = {TopicPartition(topic, number): OffsetSpec.latest() for number in partitions}

        def ends(level: IsolationLevel) -> list[int]:
            told = admin.list_offsets(places, isolation_level=level).values()
            return [one.result(30).offset for one in told]

        def settled() -> bool:
            there = ends(IsolationLevel.READ_UNCOMMITTED)
            return all(
                seen >= end for seen, end in zip(ends(IsolationLevel.READ_COMMITTED), there, strict=True)
            )

        wait_until(settled, 60, f"the transactions of {topic} to end")

    def delete_group(self, group: str) -> None:
        """Forget a consumer group with its offsets."""
        admin = self.admin()  # must outlive the request
        admin.delete_consumer_groups([group])[group].result(30)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Move the start of a partition forward, as its retention would."""
        target = TopicPartition(topic, partition, before)
        admin = self.admin()  # must outlive the request
        admin.delete_records([target])[target].result(30)

    def _producing(self, config: Mapping[str, Any] | None) -> dict[str, Any]:
        settled = {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5}
        return {**settled, "log_level": 0, "message.max.bytes": 20_000_000, **(config or {})}

    @staticmethod
    def _has(admin: AdminClient, topic: str, partitions: int) -> bool:
        known = admin.list_topics(timeout=10).topics.get(topic)
        if known is None or known.error is not None or len(known.partitions) != partitions:
            return False
        return all(partition.leader >= 0 for partition in known.partitions.values())


def _send(
    producer: Producer, topic: str, messages: Iterable[Mapping[str, Any]]
) -> list[tuple[KafkaError | None, Message]]:
    reports: list[Any] = []
    for message in messages:
        place = len(reports)
        reports.append(None)

        def keep(error: KafkaError | None, sent: Message, place: int = place) -> None:
            reports[place] = (error, sent)

        while True:
            try:
                producer.produce(topic, on_delivery=keep, **message)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    return reports


def _acknowledged(reports: Iterable[tuple[KafkaError | None, Message]]) -> list[Message]:
    acknowledged = []
    for error, message in reports:
        if error is not None:
            raise KafkaException(error)
        acknowledged.append(message)
    return acknowledged


def _libraries() -> Path:
    java()
    return fetch_once(f"kafka/{VERSION}", _fetch)


class _Learning(Kafka):
    """A broker that writes down the classes that it loaded, as it ends."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self._archive = archive

    @classmethod
    def install(cls) -> None:
        _libraries()

    def _program(self, *options: str) -> list[str]:
        return _java(f"-XX:ArchiveClassesAtExit={self._archive}", *options)


def _classes() -> Path:
    """The classes of a broker as Java maps them into memory: it starts in half the time of a processor."""
    _libraries()
    return fetch_once(f"kafka-{VERSION}-classes", _learn) / "classes.jsa"


def _learn(target: Path) -> None:
    with _Learning(target / "classes.jsa") as broker:
        broker.create_topic("learning")
        broker.produce("learning", [{"value": b"learning"}])
        broker.stop(60)


def _fetch(target: Path) -> None:
    maven = tool("mvn", JAVA_LINE)
    (target / "pom.xml").write_text(_POM.format(version=VERSION))
    copy = ["dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"]
    run([maven, "-q", "-B", *copy], cwd=target)


def _java(*options: str) -> list[str]:
    # Without links: classes that were learnt hold for the path of their libraries.
    libraries = _libraries().resolve() / "libs" / "*"
    return [java(), *options, "-cp", str(libraries)]
