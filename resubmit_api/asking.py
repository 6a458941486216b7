"""What callers may ask the index while they wait: a budget for each request, and places for a few at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from flask import g, has_request_context, request

from resubmit_api.errors import RETRY_AFTER, problem
from transforms.budget import Budget, TooSlowError, within
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index
from transforms.selection import Selection

__all__ = ["SECONDS", "in_budget", "searching"]

SECONDS = 5.0
"""What the queries of one request may take together."""

_MOST_CONDITIONS = 200
_PLACES = threading.BoundedSemaphore(4)
"""Fewer than the server has threads, so that others are served while all of these search."""
_WAIT = 1.0
_HOUR = timedelta(hours=1)


@contextmanager
def in_budget() -> Iterator[None]:
    """Ask the index within what is left of this request's budget, for what it answers at once.

    Raises:
        TransientError: it did not.
    """
    try:
        with _limited():
            yield
    except TooSlowError as error:
        raise TransientError(str(error)) from error


@contextmanager
def searching(index: Index, selection: Selection) -> Iterator[None]:
    """The same for a query whose cost grows with the index; 422 if it is too large or too slow.

    At most four are run at once; others wait for a second, then 503.

    Raises:
        TransientError: the index answers nothing.
    """
    conditions = sum(len(clause) for clause in selection.where)
    if conditions > _MOST_CONDITIONS:
        raise ConfigurationError(
            f"A search takes at most {_MOST_CONDITIONS} conditions, and this one has {conditions}; split it."
        )
    if not _PLACES.acquire(timeout=_WAIT):
        text = f"As many searches run as the service allows; try again in {RETRY_AFTER} seconds."
        raise problem(503, "busy", text, headers={"Retry-After": str(RETRY_AFTER)})
    try:
        with _limited():
            yield
    except TooSlowError as error:
        _check_that_it_answers(index)
        raise problem(422, "slow", _advice(selection)) from error
    finally:
        _PLACES.release()


@contextmanager
def _limited() -> Iterator[None]:
    if not has_request_context():
        yield
        return
    if "budget" not in g:
        has_left = request.environ.get("waitress.client_disconnected", lambda: False)
        g.budget = Budget(time.monotonic() + SECONDS, has_left)
    with within(g.budget):
        yield


def _check_that_it_answers(index: Index) -> None:
    try:
        with within(Budget(time.monotonic() + _WAIT)):
            index.ping()
    except TooSlowError as error:
        raise TransientError(str(error)) from error


def _advice(selection: Selection) -> str:
    narrower = json.dumps(_narrower(selection), ensure_ascii=False)
    return f"The index did not finish within {SECONDS:.0f} seconds. Narrow the selection, such as: {narrower}"


def _narrower(selection: Selection) -> dict[str, Any]:
    """A selection like this one that is found sooner."""
    sources = selection.sources[:1] or ("NAME",)
    end = selection.published_to or datetime.now(timezone.utc).replace(microsecond=0)
    since = selection.published_from
    begin = end - (_HOUR if since is None or since >= end else min(_HOUR, (end - since) / 4))
    return {
        "sources": list(sources),
        "published_from": begin.isoformat(),
        "published_to": end.isoformat(),
    }
