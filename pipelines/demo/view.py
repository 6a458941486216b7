"""Shows the results of the demo."""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from pipelines.demo.place import Place
from transforms.quantities import human_bytes

__all__ = ["next_steps", "show"]


def show(
    console: Console,
    place: Place,
    archived: tuple[int, float],
    job: Mapping[str, Any],
    request: Mapping[str, Any],
) -> None:
    """Show what was archived and resubmitted, its files, and the request that did it.

    Args:
        console: the terminal.
        place: of the demo.
        archived: number of messages and seconds.
        job: the resubmission from the API.
        request: the body of its request.
    """
    count, seconds = archived
    files = [path for path in (place.directory / "lake").rglob("*.parquet") if "_persistor" not in path.parts]
    stored = human_bytes(sum(path.stat().st_size for path in files))
    report = job["report"]
    facts = Table.grid(padding=(0, 2))
    facts.add_row("archived", f"{count:,} messages, {len(files)} Parquet files, {stored}")
    facts.add_row("", f"in {seconds:.1f} s, including the start of all processes")
    facts.add_row("lake", _shown(place.directory / "lake"))
    facts.add_row("index", _shown(place.directory / "index.db"))
    facts.add_row("resubmitted", f"{report['published']:,} messages, {report['rate']:,.0f} a second")
    facts.add_row("verified", f"{report['verified_by_checksum']:,} by checksum before they were sent")
    console.print(Panel(facts, title="What happened", title_align="left", expand=False))
    _command(console, "One of the files", _shown(min(files)))
    _command(console, "The request that resubmitted", _curl(place, "/v1/resubmissions", request))


def next_steps(console: Console, place: Place) -> None:
    """Commands to copy, with this demo's addresses."""
    persistor = _shown(Path(sysconfig.get_path("scripts")) / "persistor")
    lookup = {"selection": {"where": [{"attributes.key": "device-007"}]}, "limit": 3}
    plan = f'--destination {place.broker}/orders-replay --selection \'{{"sources": ["orders"]}}\''
    stored = f"--lake {place.lake} --index"
    _command(console, "In the browser: find messages, plan, send, watch", place.url)
    _command(console, "Find messages", _curl(place, "/v1/messages/search", lookup))
    _command(console, "Plan a resubmission", f"{persistor} plan {stored} {place.index} {plan}")
    _command(console, "Rebuild the index", f"{persistor} rebuild {stored} sqlite://{place.directory}/anew.db")
    _command(console, "Watch persist", f"curl -s http://127.0.0.1:{place.metrics}/metrics | grep ^persistor")
    _command(console, "Logs", f"{_shown(place.directory)}/*.log")


def _command(console: Console, what: str, line: str) -> None:
    # Never wrapped, so that it can be copied.
    console.print(what, style="bold")
    console.print(f"  {line}", soft_wrap=True, markup=False)


def _curl(place: Place, path: str, body: Mapping[str, Any]) -> str:
    return f"curl -s {place.url}{path} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
