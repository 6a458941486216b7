"""Dashboards and alert rules ask for nothing that a real run does not show to a real Prometheus."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
import yaml

from pipelines.reference.metrics import declared
from tests._brokers import NatsSite
from tests._processes import spawned
from tests.integration.harness import Archive, Persist, expected, metric
from tests.integration.load import load_message
from tests.servers import Unavailable, free_port, wait_until
from tests.servers.kafka import Kafka
from tests.servers.nats import Nats
from tests.servers.prometheus import Prometheus, promtool
from transforms.lake import Lake

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "templates" / "observability"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
VARIABLES = {"$source": ".*", "$instance": ".*", "$__rate_interval": "1m"}


def panels() -> dict[str, list[str]]:
    """The queries of every panel, as Grafana would send them."""
    boards = [(path.stem, json.loads(path.read_text())) for path in DASHBOARDS]
    found = {}
    for name, board in boards:
        for panel in board["panels"]:
            if panel["type"] != "row":
                found[f"{name}: {panel['title']}"] = [_filled(t["expr"]) for t in panel["targets"]]
    return found


def alerts() -> list[dict[str, str]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def metrics_of(query: str) -> set[str]:
    return set(re.findall(r"\b(?:persistor|process)_[a-z_]+\b", query))


def test_the_alert_rules_do_what_they_are_for(tmp_path: Path) -> None:
    try:
        promtool("check", "rules", str(FOLDER / "alerts.yml"))
    except Unavailable as error:
        pytest.skip(str(error))
    for file in (FOLDER / "alerts.yml", ROOT / "tests" / "deploy" / "alerts_test.yml"):
        (tmp_path / file.name).write_text(file.read_text())
    promtool("test", "rules", "alerts_test.yml", cwd=tmp_path)


def test_every_alert_is_tried_and_has_a_runbook() -> None:
    tried = (ROOT / "tests" / "deploy" / "alerts_test.yml").read_text()
    runbooks = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert sorted(runbooks) == sorted(alert["alert"] for alert in alerts())
    for alert in alerts():
        assert f'alertname="{alert["alert"]}"' in tried
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"


def test_dashboards_and_alerts_name_metrics_that_are_declared() -> None:
    known = set().union(*(metric.series() for metric in declared()))
    asked = {name for queries in panels().values() for query in queries for name in metrics_of(query)}
    asked |= {name for alert in alerts() for name in metrics_of(alert["expr"])}
    assert {name for name in asked if name.startswith("persistor_")} <= known
    # A job that meets a conflict ends before anybody asks.
    unasked = {name for name in known if name.endswith(("_count", "_sum"))} | {"persistor_conflicts_total"}
    assert known - asked <= unasked


def test_every_panel_is_explained_and_stands_in_a_place_of_its_own() -> None:
    for path in DASHBOARDS:
        shown = json.loads(path.read_text())["panels"]
        assert [one["id"] for one in shown] == list(range(1, len(shown) + 1))
        graphs = [one for one in shown if one["type"] != "row"]
        assert [one["title"] for one in graphs if not one["description"]] == []
        taken = [place for one in shown for place in _places(**one["gridPos"])]
        assert len(taken) == len(set(taken))


def _places(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    assert x + w <= 24
    return [(x + right, y + down) for right in range(w) for down in range(h)]


@pytest.fixture(scope="module")
def prometheus(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Persist, index and the API at work, scraped each second."""
    topic, folder = f"t{uuid.uuid4().hex[:10]}", tmp_path_factory.mktemp("observed")
    for name in (topic, f"{topic}-meta", f"{topic}-again"):
        kafka.create_topic(name, partitions=2)
    lake, index = f"file://{folder}/lake", f"sqlite://{folder}/index.db"
    ports = {job: free_port() for job in ("persistor-persist", "persistor-index", "persistor-api")}
    persist_port, index_port, api_port = map(str, ports.values())
    metadata, archive = f"{kafka.url}/{topic}-meta", Archive(Lake(lake), index)
    persist = Persist(
        folder / "p", source=f"{kafka.url}/{topic}", lake=lake, metadata=metadata, metrics_port=persist_port
    )
    indexing = Persist(folder / "i", "index", metadata=metadata, index=index, metrics_port=index_port)
    api = [f"--index={index}", f"--lake={lake}", f"--destination=main={kafka.url}", f"--port={api_port}"]
    server = Prometheus({job: f"127.0.0.1:{port}" for job, port in ports.items()}, [FOLDER / "alerts.yml"])
    try:
        server.install()
    except Unavailable as error:
        pytest.skip(str(error))
    with persist, indexing, spawned([sys.executable, "-m", "pipelines", "api", *api]), server:
        job = _work(kafka, topic, archive, f"http://127.0.0.1:{api_port}", server)
        yield server
        _cancel(job)


def _work(kafka: Kafka, topic: str, archive: Archive, api: str, server: Prometheus) -> str:
    """Two loads and a resubmission, so that every rate has two points; returns the address of one at work."""
    for start in (0, 1000):
        kafka.produce(topic, map(load_message, range(start, start + 1000)))
        wait_until(lambda: archive.indexed() == start + 1000, 90, "the index")  # noqa: B023
        wait_until(lambda: _ready(api), 60, "the service")
        body = {
            "destination": "main",
            "topic": f"{topic}-again",
            "selection": {"sources": [topic], "limit": 5},
        }
        assert requests.post(f"{api}/v1/resubmissions", json=body, timeout=30).status_code == 202
        seen = time.time() + 3  # so many scrapes lie between the loads
        wait_until(lambda: time.time() > seen, 60, "scrapes")  # noqa: B023
    slow = {"destination": "main", "topic": f"{topic}-again", "selection": {"sources": [topic]}}
    slow["rate"] = {"messages_per_second": 5}
    begun = requests.post(f"{api}/v1/resubmissions", json=slow, timeout=30)
    assert begun.status_code == 202
    wait_until(lambda: bool(server.query("persistor_resubmissions_messages_per_second > 0")), 90, "a job")
    wait_until(lambda: bool(server.query("rate(persistor_messages_total[1m]) > 0")), 60, "a rate")
    wait_until(lambda: bool(server.query("rate(persistor_indexed_total[1m]) > 0")), 60, "a rate of the index")
    return f"{api}/v1/resubmissions/{begun.json()['id']}"


def _cancel(job: str) -> None:
    """Its process is the service's child and would outlive a service that is killed."""
    assert requests.post(f"{job}/cancel", json={}, timeout=30).ok
    ended = {"CANCELLED", "COMPLETED"}
    wait_until(lambda: requests.get(job, timeout=30).json()["state"] in ended, 60, "the job to end")


def _ready(api: str) -> bool:
    try:
        return requests.get(f"{api}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("panel", sorted(panels()))
def test_a_panel_shows_what_there_is(prometheus: Prometheus, panel: str) -> None:
    for query in panels()[panel]:
        found = prometheus.query(query)
        if all(prometheus.query(f"count({name})") for name in metrics_of(query)):
            assert found, query


def test_a_healthy_run_raises_no_alert(prometheus: Prometheus) -> None:
    # A job that has just begun has sent nothing yet; nothing stays pending.
    wait_until(
        lambda: prometheus.query('ALERTS{alertname=~"Persistor.*"}') == [], 60, "no alert to be pending"
    )


def test_what_persist_waits_for_at_its_start_is_reported(kafka: Kafka, tmp_path: Path) -> None:
    topic, port = kafka.create_topic(f"t{uuid.uuid4().hex[:10]}"), free_port()
    kafka.produce(topic, map(load_message, range(3)))
    archive = Archive(Lake(f"file://{tmp_path}/lake"), f"sqlite://{tmp_path}/index.db")
    places = {"source": f"{kafka.url}/{topic}", "lake": archive.lake.url, "index": archive.index_url}

    def retries() -> float:
        return metric(port, "persistor_retries_total", what="metadata topic") or 0 if persist.pid else 0

    with Nats(tmp_path / "nats") as server:
        NatsSite(server).create("metadata")
        server.kill()
        metadata = f"{server.url}/metadata"
        with Persist(tmp_path / "log", **places, metadata=metadata, metrics_port=str(port)) as persist:
            wait_until(lambda: retries() > 1, 60, "it to wait for the metadata topic")
            assert metric(port, "persistor_info", command="persist", version=version("persistor")) == 1
            assert "cannot reach the metadata topic, trying again" in persist.output()
            server.start()
            archive.wait_for(expected(kafka, topic), persist, 60)
            persist.drain()
