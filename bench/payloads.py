"""Messages as companies have them: JSON of a given size that compresses as JSON does."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = ["messages"]

_POOL = 20_000
_POOL_BYTES = 50_000_000
_WORDS = [
    "order",
    "payment",
    "customer",
    "delivered",
    "shipped",
    "pending",
    "standard",
    "express",
    "warehouse",
    "berlin",
    "zagreb",
    "vienna",
    "paris",
    "invoice",
    "refund",
    "discount",
    "article",
    "blue",
    "green",
    "small",
    "large",
    "cotton",
    "leather",
    "returned",
    "confirmed",
    "cancelled",
    "note",
]


def messages(size: int) -> list[dict[str, Any]]:
    """20,000 different messages (2,500 of 20 kB) with a key and two headers, to be published over and over.

    More than a batch holds, so that compression gains nothing from the repetition.

    Args:
        size: bytes of each payload.
    """
    chance = random.Random(size)
    return [_message(chance, size) for _ in range(min(_POOL, _POOL_BYTES // size))]


def _message(chance: random.Random, size: int) -> dict[str, Any]:
    customer = f"customer-{chance.randrange(50_000):05d}"
    headers = [("type", b"order.created"), ("version", b"%d" % chance.choice([1, 2, 2, 2]))]
    return {"key": customer.encode(), "value": _payload(chance, customer, size), "headers": headers}


def _payload(chance: random.Random, customer: str, size: int) -> bytes:
    order: dict[str, Any] = {"id": f"{chance.getrandbits(48):012x}", "n": chance.randrange(100)}
    if size >= 150:
        order |= {"customer": customer, "amount": chance.randrange(100_000) / 100, "currency": "EUR"}
        order |= {"created": f"2026-11-{chance.randrange(1, 29):02d}T{chance.randrange(24):02d}:00:00Z"}
    order["text"] = ""
    missing = size - len(json.dumps(order))
    text = ""
    while len(text) < missing:
        text += f"{chance.choice(_WORDS)} {chance.randrange(10_000)} "
    order["text"] = text[:missing]
    return json.dumps(order).encode()
