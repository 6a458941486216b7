"""The command ``persistor expire``: its plan, its questions, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.cli import main
from tests.unit.test_expire import (
    everything,
    files,
    stored,
)
from transforms.indexes import Index
from transforms.lake import INTERNAL, Lake


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = main(["expire", "--json", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out)["report"] if out else None, err


def test_the_command_deletes_with_yes_alone(
    lake: Lake, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for location in stored(lake, index):
        os.utime(location.removeprefix("file://"), (0, 0))
    where = f"--lake={lake.url}", f"--index=sqlite://{tmp_path}/index.db", "--before=1970-01-11"
    code, plan, _ = run(capsys, *where)
    assert (code, plan["done"], plan["messages"], len(files(lake))) == (0, False, 240, 48)
    code, report, _ = run(capsys, *where, "--source=orders", "--yes")
    assert (code, report["done"], report["messages"], report["entries"]) == (0, True, 240, 240)
    assert (len(files(lake)), len(everything(index))) == (24, 240)


def test_the_command_shows_what_it_would_do(
    lake: Lake, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for location in stored(lake, index):
        os.utime(location.removeprefix("file://"), (0, 0))
    where = f"--lake={lake.url}", f"--index=sqlite://{tmp_path}/index.db", "--before=1970-01-11"
    assert main(["expire", *where, "--source=orders"]) == 0
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    told = {name: value.strip() for name, value in lines.items()}
    assert (told["files"], told["messages"], told["kept (newer)"], told["only"]) == (
        "24",
        "240",
        "24",
        "orders",
    )
    assert told["note"] == "Nothing is deleted yet: this is the plan; --yes carries it out."


def test_sigterm_ends_it_also_as_the_first_process_of_a_container(lake: Lake) -> None:
    """There a signal that nobody handles is no signal; the index here takes connections and never answers."""
    lake.put_new(f"{INTERNAL}sources/orders/000001.json", b"{}")
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(60)
        url = f"mongodb://127.0.0.1:{index.getsockname()[1]}/persistor?serverSelectionTimeoutMS=60000"
        words = [f"--lake={lake.url}", f"--index={url}", "--before=1d"]
        command = [sys.executable, "-m", "pipelines", "expire", *words]
        as_first = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", *command]
        for started in (command, as_first):
            with subprocess.Popen(started) as process:
                connection, _ = index.accept()
                inner = psutil.Process(process.pid).children() or [process]
                os.kill(inner[0].pid, signal.SIGTERM)
                assert process.wait(30) == 143
                connection.close()


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("2100-01-01", "in the future"),
        ("2020-13-01", "write it as"),
        ("2020-01-01T00:00:00", "with its time zone"),
        ("soon", "write a time as"),
        ("0d", "write an age above 0, such as 90d"),
        ("9999999d", "write an age above 0, such as 90d"),
    ],
)
def test_a_date_that_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, told: str
) -> None:
    code, report, problem = run(
        capsys, f"--lake=file://{tmp_path}/lake", "--index=none", f"--before={before}", "--yes"
    )
    assert (code, report) == (2, None)
    assert "--before" in problem
    assert told in problem


def test_an_age_counts_from_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, report, _ = run(capsys, f"--lake=file://{tmp_path}", "--index=none", "--before=90d")
    ago = datetime.now(timezone.utc) - datetime.fromisoformat(report["before"])
    assert timedelta(days=90) <= ago < timedelta(days=90, minutes=1)
