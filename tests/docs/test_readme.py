"""The README's commands for one's own brokers, with Kafka, S3 and MongoDB."""

from __future__ import annotations

from tests._replay import consumed
from tests.docs.conftest import Reader, orders


def test_the_readme_archives_plans_and_sends(reader: Reader) -> None:
    for topic in ("orders", "payments", "orders-replay"):
        reader.kafka.create_topic(topic)
    reader.kafka.produce("orders", orders(200))
    reader.kafka.produce("payments", orders(10))
    printed = reader.session.run("README.md", __file__, ready=reader.has_indexed(210))
    assert "COMPLETED" in printed
    sent = [one for one in consumed(reader.kafka, "orders") if one[3] == [("version", b"2")]]
    assert len(sent) == 100
    assert consumed(reader.kafka, "orders-replay") == sent
