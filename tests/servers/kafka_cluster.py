"""A cluster of three Kafka brokers, each a controller too, whose SASL listeners speak TLS."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.servers import Cluster, wait_until
from tests.servers.certificates import Authority
from tests.servers.kafka import Kafka

__all__ = ["KafkaCluster"]

_SMALL = "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"
_SETTINGS = """
node.id={node}
controller.quorum.voters={voters}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
broker.session.timeout.ms=3000
"""


class KafkaCluster(Cluster):
    """Topics have three replicas of which two must have a message; any one broker may be killed.

    Args:
        settings: more lines of every broker's properties, which win.

    Attributes:
        members: the brokers; a client of any one of them knows all.
        authority: who signed the certificate of their SASL listeners.
    """

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.authority = Authority(directory)
        self.members: list[Kafka] = [Kafka(java=_SMALL) for _ in range(3)]
        ports = enumerate((member.controller_port for member in self.members), 1)
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in ports)
        for node, member in enumerate(self.members, 1):
            member.seeds, member.cluster = self.members, self.members[0].cluster
            own = _SETTINGS.format(node=node, voters=voters, certificate=self.authority.server)
            member.settings = own + settings

    def leader(self, topic: str) -> Kafka:
        """The leader of a topic's first partition."""
        admin = self.members[0].admin()

        def leader() -> int:
            return max(0, admin.list_topics(timeout=20).topics[topic].partitions[0].leader)

        return self.members[wait_until(leader, 60, "a leader") - 1]

    def start(self) -> None:
        """Start all at once: none of them answers alone."""
        with ThreadPoolExecutor(len(self.members)) as threads:
            list(threads.map(Kafka.start, self.members))
