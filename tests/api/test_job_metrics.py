"""What Prometheus is told of resubmissions, while they run and when they have ended."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from resubmit_api.metrics import Metrics
from tests.api._jobs import SLOW, body, post, until
from tests.api.conftest import Client, Site, Streams, order
from tests.servers import wait_until
from tests.servers.mongodb import MongoDB
from tests.servers.nats import Nats
from transforms.jobs.rows import new_row
from transforms.replay.options import Options
from transforms.selection import Selection

THREADS = 8


@pytest.fixture
def api(site: Site, nats: Nats) -> Iterator[Client]:
    """A service to which more than ten messages are a large selection."""
    with site.serve({"main": nats.url}, inline_limit=10) as client:
        yield client


def test_prometheus_sees_what_is_being_sent_while_it_is(
    site: Site, api: Client, streams: Streams, topic: str
) -> None:
    site.archive(*(order(n) for n in range(2000)))
    job = post(api, "resubmissions", body(topic, rate=SLOW), 202)
    rate = "persistor_resubmissions_messages_per_second", {"destination": "main"}
    wait_until(lambda: (told(api, *rate) or 0) > 0, 60, "a rate")
    assert (told(api, *rate) or 0) < 300
    assert told(api, "persistor_resubmissions_open", {"destination": "main", "state": "RUNNING"}) == 1
    left = told(api, "persistor_resubmissions_open_messages", {"destination": "main", "outcome": "left"})
    assert 0 < (left or 0) < 2000
    post(api, f"resubmissions/{job['id']}/pause")
    paused = "persistor_resubmissions_open", {"destination": "main", "state": "PAUSED"}
    wait_until(lambda: told(api, *paused) == 1 and told(api, *rate) == 0, 60, "the pause to be told")
    post(api, f"resubmissions/{job['id']}/cancel")
    until(api, job, "CANCELLED")
    wait_until(lambda: told(api, *paused) is None and told(api, *rate) is None, 30, "the end to be told")


def told(api: Client, name: str, labels: dict[str, str]) -> float | None:
    """A sample of the service's metrics, None where it is not there."""
    families = text_string_to_metric_families(api.get("/metrics").text)
    found = (s.value for f in families for s in f.samples if (s.name, s.labels) == (name, labels))
    return next(found, None)


def test_what_a_resumed_job_sends_is_counted_once() -> None:
    metrics, row = Metrics(), a_row()
    first = {**row, "state": "FAILED", "progress": {"planned": 9, "published": 4, "failed": 1}}
    metrics.finished(first)
    metrics.finished({**first, "state": "COMPLETED", "progress": {"planned": 9, "published": 9, "failed": 0}})
    counted = "persistor_api_resubmitted_messages_total"
    found = [
        metrics.registry.get_sample_value(counted, {"destination": "main", "outcome": outcome})
        for outcome in ("published", "failed")
    ]
    assert found == [9, 1]


def test_addresses_that_the_command_was_given_are_no_labels() -> None:
    metrics = Metrics()
    metrics.jobs([{**a_row(), "destination": "kafka://h:9092"}], {})
    assert b'persistor_resubmissions_open{destination="(command)",state="RUNNING"} 1.0' in metrics.text()
    assert b"h:9092" not in metrics.text()


def a_row() -> dict[str, Any]:
    return new_row(
        destination="main", topic="t", selection=Selection(all=True), options=Options(), requested_by=None
    )


def test_metrics_are_served_while_the_index_hangs(site: Site, nats: Nats, mongodb: MongoDB) -> None:
    index = f"{mongodb.url}_{uuid.uuid4().hex[:8]}"
    with site.serve({"main": nats.url}, index=index) as api:
        ask = partial(api.get, "/v1/sources")
        with ThreadPoolExecutor(12) as pool:
            mongodb.pause()
            try:
                asked = [pool.submit(ask) for _ in range(12)]
                waiting = "persistor_api_requests_waiting", {}
                wait_until(lambda: told(api, *waiting) == 12 - THREADS, 10, "all threads to be busy")
            finally:
                mongodb.resume()
        assert {one.result().status_code for one in asked} == {200}
