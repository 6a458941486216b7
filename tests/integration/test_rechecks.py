"""Destinations that have changed since the plan, or would not keep what is sent: nothing is sent there."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from pipelines import resubmit
from pipelines.cli import main
from pipelines.settings.replay import ResubmitSettings
from tests._archive import archive
from tests._brokers import NatsSite
from tests._messages import row, table
from tests._replay import consumed, freeze, numbered, settings
from tests.servers import wait_until
from tests.servers.kafka import Kafka
from transforms import registry
from transforms.brokers import kafka as broker
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.reading.claims import Claims
from transforms.replay import Options, freeze_plan, replay_lane
from transforms.replay.ledger import total
from transforms.replay.options import Rate
from transforms.replay.plans import lane_url, load_plan
from transforms.selection import Selection

HOUR = 3_600_000


@pytest.fixture
def of_two_hours_ago() -> pa.Table:
    messages = numbered(2_000)
    times = messages["publish_time"].cast(pa.int64()).to_numpy() - 2 * HOUR * 1000
    return messages.set_column(
        messages.schema.get_field_index("publish_time"),
        "publish_time",
        pa.array(times).cast(messages["publish_time"].type),
    )


def keep(kafka: Kafka, topic: str, milliseconds: int) -> None:
    entry = ConfigEntry("retention.ms", str(milliseconds), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = kafka.admin()
    admin.incremental_alter_configs([resource])[resource].result(30)


def entered(lake: Lake, url: str, topic: str, source: str = "orders") -> None:
    """Note in the lake that a source is an archive of this topic, as persist does at its start."""
    with closing(registry.broker(url).open_reader(f"{url}/{topic}", {}, group="tests")) as reader:
        [incarnation] = set(reader.discover().values())
        Claims(lake).incarnation(source, reader.identity(), incarnation)


def planned(made: ResubmitSettings, index: Index) -> str:
    words = ["--index", made.index, "--lake", made.lakes[0]]
    to = ["--destination", made.destination or "", "--selection", made.selection or ""]
    assert main(["plan", *words, *to]) == 0
    return str(index.list_jobs(1)[0]["id"])


def test_a_plan_whose_destination_keeps_less_by_now_is_not_run(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path, of_two_hours_ago: pa.Table
) -> None:
    topic = kafka.create_topic("shrunk", 1, retention_ms=3 * HOUR)
    archive(lake, index, of_two_hours_ago)
    id = planned(settings(tmp_path, f"{kafka.url}/{topic}"), index)
    keep(kafka, topic, HOUR)
    with pytest.raises(ConfigurationError, match=r"^The oldest message is of .* soon deletes"):
        resubmit.run(settings(tmp_path, None, selection=None, plan=id))
    assert consumed(kafka, topic) == []
    keep(kafka, topic, 3 * HOUR)
    assert resubmit.run(settings(tmp_path, None, selection=None, resume=id)).published == 2_000


def test_a_job_that_is_taken_up_is_checked_for_what_is_left_of_it(
    kafka: Kafka, lake: Lake, index: Index, tmp_path: Path, of_two_hours_ago: pa.Table
) -> None:
    topics = [kafka.create_topic(f"{source}-left", 1, retention_ms=3 * HOUR) for source in ("early", "late")]
    archive(lake, index, of_two_hours_ago, source="early")
    archive(lake, index, numbered(100), source="late")
    plan = freeze_plan(
        index,
        [lake],
        Selection(all=True),
        url=f"{kafka.url}/{{source}}-left",
        destination=lambda topic: broker.open_publisher(f"{kafka.url}/{topic}", {}).destination(),
        options=Options(),
    )
    early, late = sorted(plan.lanes)
    assert (plan.lanes[early], plan.lanes[late]) == (2_000, 100)
    with closing(broker.open_publisher(lane_url(plan, early), {}, name=f"{plan.job}-{early}")) as publisher:
        assert replay_lane(plan, early, [lake], publisher).published == 2_000
    for topic in topics:
        keep(kafka, topic, HOUR)
    report = resubmit.run(settings(tmp_path, None, selection=None, resume=plan.job))
    assert (report.published, report.exit_code) == (100, 0)


def test_a_job_ends_where_its_destination_changes_while_it_runs(
    kafka: Kafka,
    lake: Lake,
    index: Index,
    tmp_path: Path,
    of_two_hours_ago: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.rechecks._EVERY", 0.5)
    topic = kafka.create_topic("shrinking", 1, retention_ms=3 * HOUR)
    archive(lake, index, of_two_hours_ago)
    plan = load_plan(lake, planned(settings(tmp_path, f"{kafka.url}/{topic}"), index))

    def shrink() -> None:
        wait_until(lambda: total(lake, plan).done, 90, "the first commit")
        keep(kafka, topic, HOUR)

    shrinking = threading.Thread(target=shrink)
    shrinking.start()
    made = settings(tmp_path, None, selection=None, plan=plan.job, rate=Rate(messages_per_second=50))
    with pytest.raises(ConfigurationError, match="soon deletes"):
        resubmit.run(made)
    shrinking.join()
    job = index.list_jobs(1)[0]
    assert (job["state"], "soon deletes" in job["reason"]) == ("FAILED", True)
    assert 0 < total(lake, plan).done < 2_000


def test_more_than_the_retention_in_bytes_is_refused(kafka: Kafka, lake: Lake, index: Index) -> None:
    config: dict[str, Any] = {"retention.ms": -1, "retention.bytes": 1_000}
    topic = kafka.create_topic("tiny", 2, **config)
    archive(lake, index, numbered(2_000))
    with pytest.raises(ConfigurationError, match=r"but tiny keeps 2,000 bytes and deletes the oldest ones"):
        freeze(lake, index, f"{kafka.url}/{topic}")
    [warning] = [
        text for text in freeze(lake, index, f"{kafka.url}/{topic}", lossy=True).warnings if "keeps" in text
    ]
    assert "the first of them would soon be gone" in warning


@pytest.mark.parametrize("broker", ["kafka", "nats"])
def test_what_was_archived_goes_back_into_its_topic_only_where_that_is_allowed(
    broker: str, request: pytest.FixtureRequest, lake: Lake, index: Index
) -> None:
    if broker == "kafka":
        kafka = request.getfixturevalue("kafka")
        url, topic = kafka.url, kafka.create_topic("eu-orders", 1)
    else:
        site = request.getfixturevalue("nats_site")
        url, topic = site.server.url, site.topic()
    archive(lake, index, numbered(10))
    archive(lake, index, numbered(10, 1), source=f"prefix.{topic}")
    entered(lake, url, topic, source=f"prefix.{topic}")
    own = {"sources": [f"prefix.{topic}"]}
    other = freeze(lake, index, f"{url}/{topic}", lossy=True)
    assert [text for text in other.warnings if "is archived" in text] == [
        f"{topic} is archived as source 'prefix.{topic}': what is sent there is archived again."
    ]
    selection = Selection.model_validate(own)
    with pytest.raises(ConfigurationError, match=r"archived again\. Send to another topic"):
        freeze(lake, index, f"{url}/{topic}", selection, lossy=True)
    allowed = freeze(lake, index, f"{url}/{topic}", selection, lossy=True, into_its_source=True)
    assert (allowed.messages, allowed.problems) == (10, ())


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"max_msgs": 9}, "keeps 9 messages and deletes the oldest ones"),
        ({"max_bytes": 500}, "keeps 500 bytes and deletes the oldest ones"),
        ({"max_msgs": 9, "discard": "new"}, "takes 9 messages in all, and refuses what is beyond"),
    ],
)
def test_a_stream_that_would_not_keep_all_of_it_is_refused(
    nats_site: NatsSite, lake: Lake, index: Index, limits: dict[str, Any], problem: str
) -> None:
    name = f"small-{len(problem)}"
    nats_site.do(lambda js: js.add_stream(name=name, subjects=[name], **limits))
    archive(lake, index, table(*[row(offset=n, data=b"x" * 100) for n in range(10)]))
    with pytest.raises(ConfigurationError, match=problem):
        freeze(lake, index, f"{nats_site.server.url}/{name}")


def test_a_stream_whose_oldest_messages_would_go_is_warned_of(
    nats_site: NatsSite, lake: Lake, index: Index
) -> None:
    nats_site.do(lambda js: js.add_stream(name="full", subjects=["full"], max_msgs=15))
    nats_site.publish("full", table(*[row(id=f"{n}", offset=n) for n in range(10)]))
    archive(lake, index, table(*[row(offset=n, data=b"x") for n in range(10)]))
    warnings = freeze(lake, index, f"{nats_site.server.url}/full").warnings
    assert "With these messages full exceeds the 15 messages that it keeps: its oldest ones are deleted." in (
        warnings
    )
