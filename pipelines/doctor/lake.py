"""Checks of a lake by ``persistor doctor``."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.connections import open_lake
from pipelines.doctor.findings import Finding, tried
from transforms.errors import PersistorError
from transforms.lake import INTERNAL, Lake
from transforms.metrics import host
from transforms.probe import REMEDY, overwrites

__all__ = ["SLOW", "examine_lake"]

SLOW = 0.25
"""Seconds after which a call counts as slow."""
_SKEW = 30.0
_WRITING = ("persist", "plan", "resubmit", "api", "maintain")
_DELETING = ("plan", "resubmit", "api", "maintain")
_PATIENCE = {"timeout": "20s"}


def examine_lake(url: str, config: Mapping[str, str], command: str) -> Iterator[Finding]:
    """List it and, if the command writes, write, read and delete an object below ``_persistor/doctor/``.

    Raises:
        ConfigurationError: it does not exist, or refuses us.
        TransientError: it does not answer.
    """
    with _as_it_was(url):
        lake = open_lake(url, {**_PATIENCE, **config})
        yield Finding("lake", "fine", f"{url} can be listed.")
        if command in _WRITING:
            yield from _examine_writing(lake, deletes=command in _DELETING)


@contextlib.contextmanager
def _as_it_was(url: str) -> Iterator[None]:
    """Remove directories created in a local lake, because they would belong to this user."""
    places = [Path(one) / INTERNAL / "doctor" for one in host.directories([url])]
    made = [one for place in places for one in (place, *place.parents) if not one.exists()]
    try:
        yield
    finally:
        for one in made:
            with contextlib.suppress(OSError):  # another process may use it by now
                one.rmdir()


def _examine_writing(lake: Lake, *, deletes: bool) -> Iterator[Finding]:
    path, content = f"{INTERNAL}doctor/{uuid.uuid4().hex}", b"written by persistor doctor"
    started = time.time()
    lake.put_new(path, content)
    seconds = time.time() - started
    try:
        found = list(tried("lake", _examine_object, lake, path, content, (started, seconds)))
    finally:
        stays = _cannot_delete(lake, path)
    yield from found
    if stays and deletes:
        remedy = f"The command deletes old objects below {INTERNAL}: allow it there."
        yield Finding("lake", "wrong", f"{path} cannot be deleted: {stays}", remedy)
    elif stays:
        yield Finding(
            "lake", "fine", f"{path} stays, because objects cannot be deleted; archiving never deletes any."
        )


def _cannot_delete(lake: Lake, path: str) -> str:
    try:
        lake.delete(path)
    except PersistorError as error:
        return str(error)
    return ""


def _examine_object(lake: Lake, path: str, content: bytes, written: tuple[float, float]) -> Iterator[Finding]:
    started, seconds = written
    if overwrites(lake, path, content):
        yield Finding(
            "lake", "wrong", "The store overwrote an object instead of refusing to create it.", REMEDY
        )
    elif bytes(lake.get(path)) != content:
        yield Finding("lake", "wrong", "The store returned other bytes than were written.")
    else:
        yield _written(seconds)
    yield _clock(lake.modified(path).timestamp(), started, time.time())


def _written(seconds: float) -> Finding:
    said = f"Objects can be created once and read; a small one is written in {seconds * 1000:.0f} ms."
    if seconds < 4 * SLOW:
        return Finding("lake", "fine", said)
    return Finding("lake", "care", said, "Use larger batches or a closer lake to keep the rate up.")


def _clock(written: float, earliest: float, latest: float) -> Finding:
    # Stores report whole seconds.
    skew = max(earliest - 1 - written, written - latest, 0.0)
    said = f"This machine's clock and the store's differ by {skew:.0f} s."
    if skew < _SKEW:
        return Finding("clock", "fine", said)
    remedy = (
        "Synchronise both clocks: otherwise signed requests are refused, and leases of jobs are misjudged."
    )
    return Finding("clock", "wrong", said, remedy)
