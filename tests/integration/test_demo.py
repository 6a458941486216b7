"""The demo: it ends well by itself, notices what is not equal, and leaves no process behind."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from pipelines.demo.__main__ import _compare
from pipelines.demo.traffic import Message, Outgoing, Traffic, messages
from tests.servers import wait_until
from tests.servers.nats import Nats

SECONDS = 150.0


def demo(directory: Path, *words: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "pipelines.demo",
        "--directory",
        str(directory),
        "--messages",
        "3000",
        *words,
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def left_behind(directory: Path) -> list[str]:
    lines = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(directory) in line]


def test_once_archives_resubmits_compares_and_ends(tmp_path: Path) -> None:
    process = demo(tmp_path / "demo", "--once")
    shown, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, shown
    assert re.search(r"✓ equal  1,[0-9]{3} messages compared: payloads, headers and order", shown)
    assert "3,000 messages, " in shown
    assert "/v1/resubmissions" in shown
    assert list((tmp_path / "demo" / "lake").rglob("*.parquet"))
    assert left_behind(tmp_path) == []


def test_it_stays_up_until_it_is_interrupted_and_then_stops_everything(tmp_path: Path) -> None:
    process = demo(tmp_path / "demo")
    shown = ""
    for line in process.stdout or ():
        shown += line
        if "Ctrl-C" in line:
            break
    [page] = re.findall(r"^ +(http://127\.0\.0\.1:[0-9]+)$", shown, re.MULTILINE) or [f"no page in {shown}"]
    assert urllib.request.urlopen(page, timeout=60).status == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 0
    wait_until(lambda: left_behind(tmp_path) == [], 60, "all processes of the demo to end")


def test_it_removes_no_files_but_those_of_a_demo(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("kept")
    process = demo(tmp_path, "--once")
    shown, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "holds files of something else; choose another --directory." in shown
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(("last", "equal"), [(b"}", True), (b"?", False)])
def test_it_fails_where_one_byte_differs(last: bytes, equal: bool) -> None:
    with Nats() as nats:
        assert asyncio.run(_compared(nats, last)) is equal


async def _compared(nats: Nats, ending: bytes) -> bool:
    wanted = [
        one for one in messages(90) if one.subject == "orders" and ("version", "2") in one.message.headers
    ]
    async with Traffic(nats.url) as traffic:
        await traffic.create_streams()
        await traffic.publish(iter(wanted))
        last = wanted.pop().message
        replay = [Outgoing("orders-replay", one.message) for one in wanted]
        replay.append(Outgoing("orders-replay", Message(last.data[:-1] + ending, last.headers)))
        await traffic.publish(iter(replay))
        now = datetime.now(timezone.utc)
        hour = {
            "published_from": (now - timedelta(hours=1)).isoformat(),
            "published_to": (now + timedelta(hours=1)).isoformat(),
        }
        return await _compare(Console(file=io.StringIO()), traffic, hour)
