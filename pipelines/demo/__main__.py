"""The demo: archives, resubmits and compares messages."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.demo.place import (
    DemoError,
    Place,
    Processes,
    ask,
    call,
    find_place,
    listens,
    make_anew,
    nats_server,
)
from pipelines.demo.traffic import Traffic, messages
from pipelines.demo.view import next_steps, show
from transforms import registry
from transforms.errors import PersistorError
from transforms.selection import Selection

__all__ = ["main"]

_PATIENCE = 60.0
_PAUSE = 0.2
_ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 if every resubmitted message equals its original.
    """
    parser = argparse.ArgumentParser(prog="make demo", description="Try Persistor on this machine.")
    parser.add_argument(
        "--once", action="store_true", help="stop at the end; exit code 0 only if all messages are equal"
    )
    parser.add_argument(
        "--messages", type=int, default=12_000, metavar="N", help="messages to publish (default: %(default)s)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(".demo"),
        metavar="DIR",
        help="directory of the demo, emptied first (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    console = Console(highlight=False)
    try:
        return asyncio.run(_demo(console, arguments.directory.absolute(), arguments.messages, arguments.once))
    except PersistorError as error:
        console.print(f"[bold red]The demo failed:[/] {error}", soft_wrap=True)
        return 1
    except asyncio.CancelledError:
        return 130


async def _demo(console: Console, directory: Path, count: int, once: bool) -> int:
    _cancelled_by_signals()
    place = find_place(make_anew(directory))
    processes = Processes(directory)
    try:
        return await _story(console, place, processes, count, once)
    finally:
        console.print("Stopping: persist writes its open batches, then every process ends.", style="dim")
        processes.stop()


def _cancelled_by_signals() -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)


async def _story(console: Console, place: Place, processes: Processes, count: int, once: bool) -> int:
    processes.start("nats-server", nats_server(place))
    await _until(processes, lambda: listens(place.nats))
    async with Traffic(place.broker) as traffic:
        await traffic.create_streams()
        started = time.monotonic()
        commands = {name: [sys.executable, "-m", "pipelines", *w] for name, w in place.commands().items()}
        with _step(console, f"{count:,} messages published while persist, API and index start"):
            # Started one after the other, because each start keeps a processor busy for seconds.
            processes.start("persist", commands["persist"])
            await traffic.publish(messages(count))
            published = datetime.now(timezone.utc)
            processes.start("api", commands["api"])
            await _until(processes, lambda: call(place, "/readyz") is not None)
            processes.start("index", commands["index"])
        with _step(console, "every message is in the lake and in the index"):
            await _until(processes, lambda: _indexed(place) >= count)
        seconds = time.monotonic() - started
        request = _request(published)
        with _step(console, "one hour of version 2 of the orders resubmitted to orders-replay"):
            job = await _resubmit(place, processes, request)
        equal = await _compare(console, traffic, request["selection"])
        show(console, place, (count, seconds), job, request)
        if not once:
            await _stay(console, place, processes, traffic)
    return 0 if equal else 1


async def _resubmit(place: Place, processes: Processes, request: dict[str, Any]) -> dict[str, Any]:
    job = ask(place, "/v1/resubmissions", request)

    def ended() -> bool:
        job.update(call(place, f"/v1/resubmissions/{job['id']}") or {})
        return job["state"] in _ENDED

    await _until(processes, ended)
    if job["state"] != "COMPLETED":
        raise DemoError(f"the resubmission ended as {job['state']}: {job['reason']}")
    return job


async def _compare(console: Console, traffic: Traffic, selection: dict[str, Any]) -> bool:
    start, end = (datetime.fromisoformat(selection[name]) for name in ("published_from", "published_to"))
    originals = await traffic.read("orders", start, end)
    wanted = [message for message in originals if dict(message.headers)["version"] == "2"]
    arrived = await traffic.read("orders-replay")
    if wanted == arrived and wanted:
        console.print(
            f"[bold green]✓ equal[/]  {len(arrived):,} messages compared: payloads, headers and order"
        )
        return True
    wrong = sum(one != other for one, other in itertools.zip_longest(wanted, arrived))
    console.print(
        f"[bold red]✗ {wrong:,} messages differ[/]: {len(wanted):,} expected, {len(arrived):,} arrived"
    )
    return False


def _request(published: datetime) -> dict[str, Any]:
    # The last hour of the messages: the clock's hour may have begun while they were published.
    end = published.replace(second=0, microsecond=0) + timedelta(minutes=1)
    selection = {
        "sources": ["orders"],
        "published_from": (end - timedelta(hours=1)).isoformat(),
        "published_to": end.isoformat(),
        "where": [{"attributes.version": "2"}],
    }
    return {"destination": "demo", "topic": "orders-replay", "selection": selection}


async def _stay(console: Console, place: Place, processes: Processes, traffic: Traffic) -> None:
    """Publish a few messages per second until Ctrl-C."""
    next_steps(console, place)
    console.print("Messages keep arriving. [bold]Ctrl-C[/] stops everything.")
    live = messages(1_000_000, seed=8)
    try:
        while True:
            processes.check()
            await traffic.publish(itertools.islice(live, 3))
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        return


async def _until(processes: Processes, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not await asyncio.to_thread(true):
        processes.check()
        if time.monotonic() > deadline:
            raise DemoError(f"this took longer than {_PATIENCE:.0f} s; the logs are in .demo")
        await asyncio.sleep(_PAUSE)


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{what} …"):
        yield
    console.print(f"[green]✓[/] {time.monotonic() - started:4.1f} s  {what}")


def _indexed(place: Place) -> int:
    with closing(registry.index(place.index).open(place.index)) as index:
        return sum(source.messages for source in index.summarize(Selection(all=True)))


if __name__ == "__main__":
    sys.exit(main())
