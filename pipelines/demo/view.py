"""What the demo shows when it is done."""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from pipelines.demo.place import Place
from pipelines.progress import human_bytes

__all__ = ["next_steps", "show"]


def show(
    console: Console,
    place: Place,
    archived: tuple[int, float],
    job: Mapping[str, Any],
    request: Mapping[str, Any],
) -> None:
    """What was archived and resubmitted, where it lies, and the request that did it.

    Args:
        console: the terminal.
        place: of the demo.
        archived: how many messages, and in how many seconds.
        job: the resubmission as the API tells it.
        request: the body that asked for it.
    """
    count, seconds = archived
    files = [path for path in (place.directory / "lake").rglob("*.parquet") if "_persistor" not in path.parts]
    stored = sum(path.stat().st_size for path in files)
    report = job["report"]
    facts = Table.grid(padding=(0, 2))
    facts.add_row("archived", f"{count:,} messages in {len(files)} Parquet files, {human_bytes(stored)}")
    facts.add_row("", f"in {seconds:.1f} s from the start of the processes to the last index entry")
    facts.add_row("lake", f"{place.directory}/lake")
    facts.add_row("such as", str(min(files).relative_to(place.directory / "lake")))
    facts.add_row("index", f"{place.directory}/index.db")
    facts.add_row(
        "resubmitted", f"{report['published']:,} of {report['planned']:,}, {report['rate']:,.0f} messages/s"
    )
    facts.add_row("verified", f"{report['verified_by_checksum']:,} by checksum before they were sent")
    console.print(Panel(facts, title="What happened", title_align="left"))
    console.print("The request that did it:", style="bold")
    body = json.dumps(request, indent=2)
    console.print(
        Syntax(f"curl {place.url}/v1/resubmissions --json '{body}'", "bash", background_color="default")
    )


def next_steps(place: Place) -> Panel:
    """Commands to copy, with this demo's addresses."""
    persistor = f"{os.path.relpath(sysconfig.get_path('scripts'))}/persistor"
    steps = Table.grid(padding=(0, 1))
    steps.add_row("[bold]The API and its page[/]", f"{place.url}/docs")
    steps.add_row("[bold]Find messages[/]", f"curl {place.url}/v1/messages/search --json \\")
    steps.add_row("", """'{"selection": {"where": [{"attributes.key": "device-007"}]}, "limit": 3}'""")
    steps.add_row(
        "[bold]Plan without sending[/]", f"{persistor} resubmit --plan_only --index {place.index} \\"
    )
    steps.add_row("", f"--lake {place.lake} --destination {place.broker}/orders-replay \\")
    steps.add_row("", """--selection '{"sources": ["orders"]}'""")
    steps.add_row(
        "[bold]Make the index anew[/]",
        f"{persistor} rebuild --index sqlite:///tmp/rebuilt.db --lake {place.lake}",
    )
    steps.add_row(
        "[bold]Watch persist[/]", f"curl -s http://127.0.0.1:{place.metrics}/metrics | grep ^persistor"
    )
    steps.add_row("[bold]Logs[/]", f"{place.directory}/*.log")
    return Panel(steps, title="What to try next", title_align="left")
