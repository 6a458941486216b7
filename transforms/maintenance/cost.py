"""What a lake and its index cost a month, from the lake's own figures and a list of prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transforms.errors import ConfigurationError
from transforms.maintenance.figures import Figures

__all__ = ["Cost", "Prices", "cost"]

_MONTH = 30.44
_GB = 1e9
_SEGMENTS_A_DAY = 2
_ENTRY = 12.0


@dataclass(frozen=True)
class Prices:
    """The prices of one store and of the index's disk, in one currency.

    Attributes:
        as_of: when they held.
        currency: its code.
        gb_month: of a GB in the store.
        write_1000: of a thousand requests that write or list.
        read_1000: of a thousand that read.
        index_gb_month: of a GB of the index's disk.
        bytes_per_message: of the index.
    """

    as_of: str
    currency: str
    gb_month: float
    write_1000: float
    read_1000: float
    index_gb_month: float
    bytes_per_message: float

    @classmethod
    def of(cls, listed: Mapping[str, Any], scheme: str) -> Prices:
        """Of a file of prices, for a lake's scheme.

        Raises:
            ConfigurationError: a price is missing or no number.
        """
        try:
            store, index = listed[scheme], listed["index"]
            numbers = [float(store[name]) for name in ("gb_month", "write_1000", "read_1000")]
            numbers += [float(index[name]) for name in ("gb_month", "bytes_per_message")]
            return cls(str(listed["as_of"]), str(listed["currency"]), *numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"`prices`: {scheme!r} and 'index' need numbers as in pipelines/prices.yaml ({error})."
            ) from error


@dataclass(frozen=True)
class Cost:
    """The report.

    Attributes:
        prices: when they held, and their currency.
        lake: the figures of the lake.
        now: a month as it is: objects and bytes that are stored, requests, and what each part costs.
        after: the same if `maintain` runs daily.
        notes: how it was counted.
    """

    prices: str
    lake: Figures
    now: dict[str, float]
    after: dict[str, float]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        """0."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``exit_code``."""
        return {**asdict(self), "exit_code": self.exit_code}


def cost(found: Figures, prices: Prices) -> Cost:
    """What is there and what a month adds to it, at the pace of all that is there.

    Retention is taken to delete as much as comes in. Requests of reading, resubmission and search are not
    known here.
    """
    days = found.days or _MONTH
    pace = _MONTH / days
    claims = found.claims + found.folded
    entry = found.segment_bytes / found.folded if found.folded else _ENTRY
    made = _SEGMENTS_A_DAY * found.sources
    now = _month(
        prices,
        objects=found.files + found.claims + found.segments,
        bytes=found.bytes + found.claim_bytes + found.segment_bytes,
        written=pace * (found.files + claims),
        read=pace * (found.files + claims),  # by expire
        messages=found.messages,
    )
    singles = min(found.claims, round(claims / days) + found.chains)  # of a day
    average = found.claim_bytes / max(1, found.claims)
    after = _month(
        prices,
        objects=found.files + singles + min(round(made * days), claims - singles),
        bytes=found.bytes + average * singles + entry * (claims - singles),
        written=pace * (found.files + claims) + _MONTH * (made + found.chains),
        read=pace * (found.files + claims) + _MONTH * found.chains,  # by expire and maintain
        messages=found.messages,
    )
    notes = ["Requests of reading, resubmission and search are not counted."]
    if not found.days:
        notes.append("No claim says when it was made: all count as made within a month.")
    if found.estimated:
        notes.append("Single claims are estimated from 500 of them.")
    return Cost(f"{prices.currency}, as of {prices.as_of}", found, now, after, notes)


def _month(
    prices: Prices, *, objects: float, bytes: float, written: float, read: float, messages: int
) -> dict[str, float]:
    money = {
        "storage cost": bytes / _GB * prices.gb_month,
        "request cost": (written * prices.write_1000 + read * prices.read_1000) / 1000,
        "index cost": messages * prices.bytes_per_message / _GB * prices.index_gb_month,
    }
    counts = {"objects": objects, "bytes": bytes, "writes": written, "reads": read}
    rounded = {name: round(number, 2) for name, number in {**money, "cost": sum(money.values())}.items()}
    return {**{name: round(number) for name, number in counts.items()}, **rounded}
