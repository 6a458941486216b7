"""What a user without rights is told before and when a job sends to Kafka."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from pipelines.cli import main
from tests.servers import Unavailable
from tests.servers.kafka import PASSWORD, USER, Kafka
from transforms.brokers import Destination
from transforms.brokers.kafka import open_publisher
from transforms.errors import ConfigurationError
from transforms.reading.source import Source
from transforms.retry import retry

LOGIN = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": USER,
    "sasl.password": PASSWORD,
}
ACLS = (
    "With ACLs a job needs READ, WRITE, DESCRIBE and DESCRIBE_CONFIGS on the topic; WRITE and DESCRIBE on "
    "the transactional ids persistor-*; READ and DELETE on the groups persistor-resubmission-*."
)


class Guarded(Kafka):
    """Asks on its SASL listener what the user may; on the other one everybody may everything."""

    def prepare(self) -> None:
        super().prepare()
        with self._properties.open("a") as properties:
            properties.write(
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            )
            properties.write("super.users=User:ANONYMOUS\n")


@pytest.fixture(scope="module")
def kafka() -> Iterator[Guarded]:
    try:
        Guarded.install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with Guarded() as server:
        server.create_topic("guarded")
        yield server


def allow(kafka: Kafka, kind: ResourceType, name: str, *operations: AclOperation) -> None:
    prefixed = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
    allowed = [
        AclBinding(kind, name.rstrip("*"), prefixed, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
    admin = kafka.admin()
    for future in admin.create_acls(allowed).values():
        future.result(30)


def look_up(kafka: Kafka) -> Destination:
    publisher = open_publisher(f"kafka://{kafka.sasl_bootstrap}/guarded", LOGIN)
    try:
        return publisher.destination()
    finally:
        publisher.close()


def test_doctor_asks_for_what_archiving_needs_and_no_more(
    kafka: Guarded, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("reader", "preflight"):
        monkeypatch.setattr(f"transforms.brokers.kafka.{module}.TIMEOUT", 3.0)
    lake = f"file://{tmp_path}/lake"
    login = [f"{name}={value}" for name, value in LOGIN.items()]
    words = [
        f"--lake={lake}",
        *(f"--{name}_config={one}" for name in ("source", "metadata") for one in login),
    ]
    words += [
        f"--source=kafka://{kafka.sasl_bootstrap}/in",
        f"--metadata=kafka://{kafka.sasl_bootstrap}/meta",
    ]
    kafka.create_topic("in")
    kafka.create_topic("meta")
    allow(kafka, ResourceType.TOPIC, "in", AclOperation.DESCRIBE)
    allow(kafka, ResourceType.TOPIC, "meta", AclOperation.DESCRIBE, AclOperation.WRITE)
    group = Source("", purpose=f"{lake}|").group

    def told() -> list[str]:
        main(["doctor", "persist", *words])
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("x\t")]

    unread, unknown = sorted(told(), reverse=True)
    assert unread.startswith("x\tsource\tThis user may not read the Kafka topic 'in'.")
    assert unknown.startswith(f"x\tprogress\tThe progress of group {group} cannot be read: ")
    allow(kafka, ResourceType.TOPIC, "in", AclOperation.READ)
    allow(kafka, ResourceType.GROUP, group, AclOperation.READ)
    assert told() == []


def test_each_missing_right_is_reported_with_the_acls_that_a_job_needs(kafka: Kafka) -> None:
    unseen = look_up(kafka)
    assert "this user may not see it" in unseen.problems[0]
    assert unseen.for_jobs == [ACLS]
    allow(kafka, ResourceType.TOPIC, "guarded", AclOperation.DESCRIBE)
    unwritable = look_up(kafka)
    assert unwritable.problems == [f"This user may not write to the Kafka topic 'guarded'. {ACLS}"]
    allow(kafka, ResourceType.TOPIC, "guarded", AclOperation.WRITE)
    unread = look_up(kafka)
    assert not unread.problems
    assert unread.warnings[0].startswith("Retention and size limits of guarded are not checked: kafka: ")
    allow(kafka, ResourceType.TOPIC, "guarded", AclOperation.DESCRIBE_CONFIGS)
    unreadable = ["This user may not read the Kafka topic 'guarded', which jobs need.", ACLS]
    assert look_up(kafka).for_jobs == unreadable
    allow(kafka, ResourceType.TOPIC, "guarded", AclOperation.READ)
    readable = look_up(kafka)
    assert not readable.warnings
    assert not readable.for_jobs
    assert look_up(kafka).max_bytes is not None
    lane = open_publisher(f"kafka://{kafka.sasl_bootstrap}/guarded", LOGIN, name="job-1")
    with pytest.raises(ConfigurationError) as refused:
        lane.begin()
    lane.close()
    assert refused.value.problems[-1] == ACLS
    allow(kafka, ResourceType.TRANSACTIONAL_ID, "persistor-*", AclOperation.WRITE, AclOperation.DESCRIBE)
    groups = AclOperation.READ, AclOperation.DELETE
    allow(kafka, ResourceType.GROUP, "persistor-resubmission-*", *groups)
    lane = open_publisher(f"kafka://{kafka.sasl_bootstrap}/guarded", LOGIN, name="job-1")
    # The broker elects the group's coordinator when it first hears of the group.
    assert retry(lane.begin, "begin", give_up_after=60.0) is None
    assert lane.commit(7) == []
    assert lane.begin() == 7
    lane.finish()
    lane.close()
