"""What is asked of an index with a budget ends with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests._entries import NOON, stream
from transforms.budget import Budget, TooSlowError, within
from transforms.indexes import Index
from transforms.selection import Selection, parse_selection

_OTHERS = [str(n) for n in range(9, 99)]
_TRUE: dict[str, object] = {"nin": _OTHERS, "ne": "x", "gte": "", "lt": "zz", "prefix": ""}
COSTLY = parse_selection(json.dumps({"where": [{"attributes.version": _TRUE, "offset": -1}] * 33}))
SOON = Selection(ids=("orders_0_0",))

QUESTIONS: list[Callable[[Index], object]] = [
    lambda index: index.summarize(COSTLY),
    lambda index: index.search(COSTLY, 10),
    lambda index: list(index.select(COSTLY, ["id"])),
    lambda index: index.histogram(COSTLY, NOON, 1),
]


@pytest.mark.parametrize("ask", QUESTIONS, ids=["summarize", "search", "select", "histogram"])
def test_a_query_that_costs_more_ends_and_the_index_answers_others(
    index: Index, ask: Callable[[Index], object]
) -> None:
    for first in range(0, 20_000, 10_000):
        index.insert(stream(first, 10_000))
    started = time.monotonic()
    with within(Budget(started + 0.1)), pytest.raises(TooSlowError):
        ask(index)
    assert time.monotonic() - started < 3
    with within(Budget(time.monotonic() + 30)):
        assert index.search(SOON, 10)["id"].to_pylist() == ["orders_0_0"]
    assert index.summarize(SOON)[0].messages == 1


def test_what_nobody_waits_for_any_more_is_not_asked(index: Index) -> None:
    index.insert(stream(0, 10_000))
    with within(Budget(time.monotonic() + 30, lambda: True)), pytest.raises(TooSlowError):
        index.summarize(COSTLY)
