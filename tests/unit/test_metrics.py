"""Metrics: what a scrape shows, and that a process cannot be flooded with labels."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import free_port
from transforms import metrics
from transforms.errors import ConfigurationError


def sample(name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(generate_latest().decode())
    return next((s.value for f in families for s in f.samples if s.name == name and s.labels == labels), None)


def test_a_scrape_shows_counters_with_their_documented_names_and_the_process() -> None:
    metrics.MESSAGES.labels(metrics.label("scraped")).inc(3)
    metrics.BATCHES.labels(metrics.label("scraped"), "age").inc()
    port = free_port()
    metrics.serve(port, "127.0.0.1")
    metrics.serve(port, "127.0.0.1")
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    assert 'persistor_messages_total{source="scraped"} 3.0' in text
    assert 'persistor_batches_total{reason="age",source="scraped"} 1.0' in text
    assert "process_cpu_seconds_total" in text
    assert "process_resident_memory_bytes" in text


def test_a_taken_port_is_reported_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"`metrics_port: {port}` on 127.0.0.1: .*in use; choose another"
        ):
            metrics.serve(port, "127.0.0.1")


def test_port_zero_serves_nothing() -> None:
    metrics.serve(0)


def test_sources_beyond_the_cap_share_one_label() -> None:
    script = (
        "from transforms.metrics import MOST_SOURCES, label\n"
        "assert [label(str(n)) for n in range(MOST_SOURCES)] == [str(n) for n in range(MOST_SOURCES)]\n"
        "assert label('one more') == '(others)'\n"
        "assert label('7') == '7'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_is_seldom_counted_is_there_at_zero_once_a_source_is_met() -> None:
    metrics.begin("met")
    assert sample("persistor_gap_messages_total", source="met") == 0
    for stage, category in (
        ("read", "lost"),
        ("write", "gave_up"),
        ("write", "permanent"),
        ("index", "permanent"),
    ):
        assert sample("persistor_dead_letters_total", source="met", stage=stage, category=category) == 0


def test_the_age_of_the_oldest_open_message_grows_by_itself_until_it_is_archived() -> None:
    metrics.begin("aging")
    metrics.standing("reader", dict, {"aging": time.time() - 100})
    first = sample("persistor_oldest_unarchived_seconds", source="aging")
    second = sample("persistor_oldest_unarchived_seconds", source="aging")
    assert first is not None
    assert second is not None
    assert 100 <= first < second < 160
    metrics.standing("reader", dict, {"aging": None})
    assert sample("persistor_oldest_unarchived_seconds", source="aging") == 0


def test_readers_of_a_process_add_up_until_they_leave() -> None:
    now, lags = time.time(), {"shared": 3}
    metrics.begin("shared")
    metrics.standing("one", lambda: lags, {"shared": now - 100})
    metrics.standing("two", lambda: {"shared": 4}, {"shared": now - 900})
    assert sample("persistor_lag_messages", source="shared") == 7
    assert 900 <= (sample("persistor_oldest_unarchived_seconds", source="shared") or 0) < 960
    lags["shared"] = 30
    metrics.left("two")
    assert sample("persistor_lag_messages", source="shared") == 30
    assert 100 <= (sample("persistor_oldest_unarchived_seconds", source="shared") or 0) < 160
    metrics.left("one")
    assert sample("persistor_lag_messages", source="shared") == 0


def test_a_failing_call_is_timed_too() -> None:
    before = sample("persistor_write_seconds_count") or 0
    with pytest.raises(ValueError, match="broken"), metrics.timed(metrics.WRITE_SECONDS):
        raise ValueError("broken")
    assert sample("persistor_write_seconds_count") == before + 1


def test_metrics_need_no_beam() -> None:
    script = "import sys, transforms.metrics; assert 'apache_beam' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
