"""An archive as a company has it: a day of orders and telemetry, dead letters, and hostile messages."""

from __future__ import annotations

import itertools
import random
import time
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from pipelines.demo.traffic import Outgoing, messages
from tests._archive import archive
from tests._messages import row, table
from transforms.indexes import Index
from transforms.lake import Lake

__all__ = ["HOSTILE", "ORDERS", "fill"]

ORDERS = 6_000
_DAY = 86_400_000_000

_REASONS = {
    "orders": ("permanent", "The header version is not a number."),
    "telemetry": ("gave_up", "The lake did not answer for 10 min."),
}

HOSTILE: dict[str, dict[str, Any]] = {
    "html": {
        "key": b"<img src=x onerror=alert(1)>",
        "data": b'<script>document.title = "taken"</script><b>bold</b>',
        "headers": [{"name": '"><script>alert(2)</script>', "value": b"<svg/onload=alert(3)>"}],
    },
    "marks": {
        "key": "user\u202egpj.exe\u2066".encode(),
        "data": "a\u202eb\u0000c\u001b[31mred\u200b\ufeff".encode(),
        "headers": [{"name": "left\u200f\u202eright", "value": "\u0007bell\r\nSet-Cookie: a=b".encode()}],
    },
    "large": {
        "key": b"k" * 100_000,
        "data": b"\x00\xff" * 600_000,
        "headers": [
            {"name": "huge", "value": b"v" * 1_000_000},
            {"name": "binary", "value": b"\xff\xfe"},
            {"name": "nothing", "value": None},
            {"name": "", "value": b""},
        ],
    },
    "templates": {
        "key": b"{{ 7 * 7 }}",
        "data": b'{"a": "{% raw %}", "n": 1.10, "n": 12345678901234567890, "e": "</pre>"}',
        "headers": [{"name": "style", "value": b"position:fixed"}],
    },
    "tombstone": {"key": b"gone", "data": None},
    "empty": {"key": b"", "data": b""},
}
"""Messages that try to be more than text, by their name."""


def fill(lake: Lake, index: Index, orders: int = ORDERS) -> int:
    """Archive everything; returns the time in µs at which the newest message was published."""
    now = time.time_ns() // 1_000_000_000 * 1_000_000
    ingested = datetime.fromtimestamp(now / 1_000_000, timezone.utc)
    traffic = list(messages(orders * 3 // 2))
    for topic in ("orders", "telemetry"):
        own = [outgoing for outgoing in traffic if outgoing.subject == topic]
        for partition in range(3):
            rows = _rows(own[partition::3], partition, now)
            archive(lake, index, table(*rows), rows_per_file=500, source=topic, ingested=ingested)
    archive(lake, index, table(*_hostile(now)), source="uploads", ingested=ingested)
    archive(lake, index, _dead(traffic, now), source="dead-letters", ingested=ingested)
    return now


def _rows(traffic: list[Outgoing], partition: int, now: int) -> list[dict[str, Any]]:
    dice = random.Random(partition)  # one busy hour in the morning, and one now
    times = sorted(
        now - int(min(abs(dice.gauss(0, 0.06)) + dice.choice([0, 0, 0.35, 0.4, 0.8]), 0.99) * _DAY)
        for _ in traffic
    )
    return [
        _row(outgoing, partition, offset, at)
        for offset, (outgoing, at) in enumerate(zip(traffic, times, strict=True))
    ]


def _row(outgoing: Outgoing, partition: int, offset: int, at: int) -> dict[str, Any]:
    headers = dict(outgoing.message.headers)
    key = headers.pop("key").encode()
    shown = [{"name": name, "value": value.encode()} for name, value in headers.items()]
    place = {"topic": outgoing.subject, "partition": partition, "offset": offset, "publish_time": at}
    return row(**place, key=key, data=outgoing.message.data, headers=shown)


def _hostile(now: int) -> list[dict[str, Any]]:
    place = {"topic": "uploads", "partition": 0}
    return [
        row(**place, offset=offset, publish_time=now - 60_000_000 + offset, **values)
        for offset, values in enumerate(HOSTILE.values())
    ]


def _dead(traffic: list[Outgoing], now: int) -> pa.Table:
    rows = []
    for offset, outgoing in enumerate(itertools.islice(traffic, 0, 60, 2)):
        category, reason = _REASONS[outgoing.subject]
        plain = _row(outgoing, 0, offset, now - 600_000_000 + offset * 1_000_000)
        said = {
            "stage": "write",
            "category": category,
            "reason": reason,
            "source": outgoing.subject,
            "position": f"{outgoing.subject}_0_{offset}",
            "time": str(now // 1_000_000),
        }
        plain["headers"] += [
            {"name": f"persistor-error-{name}", "value": text.encode()} for name, text in said.items()
        ]
        rows.append({**plain, "topic": "dead-letters"})
    return table(*rows)
