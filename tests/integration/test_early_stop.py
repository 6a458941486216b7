"""A job that is asked to stop after its servers were checked and before it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers.kafka import Kafka

_STOPPED_WHILE_BUILT = """
import os, signal, sys
from pipelines import persist
from pipelines.runners.streaming import run_streaming
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import PersistSettings

def build(*given):
    os.kill(os.getpid(), signal.SIGTERM)
    persist.build(*given)

settings, beam = parse(PersistSettings, sys.argv[1:])
sys.exit(run_streaming(build, settings, beam))
"""


def test_a_stop_between_check_and_reading_is_a_clean_one(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.create_topic("stopped-early")
    kafka.produce(topic, [{"value": b"x"}])
    settings = (
        f"--source={kafka.url}/{topic}",
        f"--lake=file://{tmp_path}/lake",
        "--index=none",
        "--metrics_port=0",
    )
    command = [sys.executable, "-c", _STOPPED_WHILE_BUILT, *settings]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
