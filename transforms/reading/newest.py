"""Finds where reading of a partition goes on, however long its chain of claims is, with few requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from transforms.brokers import Mark
from transforms.reading.claims import MOST, Chain, Claim, Claims, parse_note

__all__ = ["BACK", "Resumed", "newest", "newest_starts", "resume", "resume_own"]

BACK = 100
"""Newest claims among which a job with sinks of its own looks for its own."""
_STEP_BACK = 1 << 14
_FASTER = 16
_FURTHER = 4


@dataclass(frozen=True)
class Resumed:
    """Where reading goes on.

    Attributes:
        position: everything below it is known to be durable.
        mark: of the last message before it; None where claims lie ahead, whose rows show another log.
        ahead: the claims from there on, the first 1,000.
        lacking: whether sinks may lack messages below it, which others have archived since ``since_us``.
    """

    position: int
    mark: Mark | None = None
    ahead: dict[int, Claim] = field(default_factory=dict)
    lacking: bool = False


def resume(claims: Claims, chain: Chain, committed: tuple[int, str] | None) -> Resumed | None:
    """Where reading goes on, from the newest claims of a chain.

    Args:
        committed: the broker's durable position and the note kept with it
            (:func:`transforms.reading.claims.note`); the newest claim is looked for there first.

    Returns:
        None if there is no claim.

    Raises:
        TransientError: the lake does not answer.
    """
    position, noted = _committed(chain, committed)
    starts = newest_starts(claims, chain, position if noted < 0 else noted)
    if not starts:
        return None
    last = claims.listed(chain, starts[-1])
    before = last if noted == starts[-1] else claims.listed(chain, noted) if noted in starts else None
    # Otherwise the position was not committed by a job with this lake.
    trusted = position if before is not None and before.next == position else 0
    at = max(last.durable, trusted)
    if at >= last.next:
        return Resumed(at, last.mark if at == last.next else None)
    if starts[0] > at:
        return Resumed(at, None, claims.ahead(chain, at))
    return Resumed(at, None, {start: claims.listed(chain, start) for start in starts if start >= at})


def resume_own(claims: Claims, chain: Chain, sinks: str, since_us: int) -> Resumed | None:
    """As :func:`resume`, where jobs with other sinks use the lake too: what they made durable counts not.

    Args:
        sinks: those of this job; the newest claim that was made with them is looked for among the last.
        since_us: when they were used first.
    """
    starts = newest_starts(claims, chain)
    if not starts:
        return None
    last = claims.listed(chain, starts[-1])
    own = next((claim for claim in _backwards(claims, chain, starts, last) if claim.sinks == sinks), None)
    lacking = own is None and (last.archived_us is None or last.archived_us >= since_us)
    at = (own or last).durable
    if at >= last.next:
        return Resumed(at, last.mark if at == last.next else None, lacking=lacking)
    return Resumed(at, None, claims.ahead(chain, at), lacking)


def _backwards(claims: Claims, chain: Chain, starts: Sequence[int], last: Claim) -> Iterator[Claim]:
    yield last
    yield from (claims.listed(chain, start) for start in starts[-2 : -BACK - 1 : -1])


def newest_starts(claims: Claims, chain: Chain, near: int = 0) -> Sequence[int]:
    """The starts of the newest claims, at most 1,000, in order; the end is expected ``near`` a position."""
    if not claims.seek:
        return claims.last_starts(chain)
    return newest(lambda after: claims.starts(chain, after), MOST, near)


def _committed(chain: Chain, committed: tuple[int, str] | None) -> tuple[int, int]:
    """The committed position of this chain, 0 where there is none, and the start noted with it, or -1."""
    if committed is None:
        return 0, -1
    start, incarnation = parse_note(committed[1])
    if incarnation != chain.incarnation:
        return 0, -1
    return committed[0], -1 if start is None else start


def newest(page: Callable[[int], Sequence[int]], most: int, near: int = 0) -> Sequence[int]:
    """The last numbers of a list, at most ``most``, however long it is; no number may be missing at its end.

    The requests are as the logarithm of the list's length. The list need not begin at 0.

    Args:
        page: the first numbers above one, in order: ``most`` where there are as many. One request.
        near: where the end is expected; found there, it takes one request.
    """
    found = page(near - 1)
    if 0 < len(found) < most:
        return found
    if found:
        return _ahead(page, most, found)
    return _back(page, most, near) if near > 0 else ()


def _back(page: Callable[[int], Sequence[int]], most: int, empty: int) -> Sequence[int]:
    """Nothing lies from ``empty`` on: go back, further each time."""
    step = _STEP_BACK
    while empty > 0:
        at = max(empty - step, 0)
        found = page(at - 1)
        if found:
            return found if len(found) < most else _between(page, most, found, empty)
        empty, step = at, step * _FASTER
    return ()


def _ahead(page: Callable[[int], Sequence[int]], most: int, full: Sequence[int]) -> Sequence[int]:
    """``full`` is not the end, as far as known: go on, further each time."""
    step = full[-1] - full[0] + 1
    while True:
        at = full[-1] + step
        found = page(at - 1)
        if not found:
            return _between(page, most, full, at)
        if len(found) < most:
            return found
        full, step = found, step * _FURTHER


def _between(
    page: Callable[[int], Sequence[int]], most: int, full: Sequence[int], empty: int
) -> Sequence[int]:
    """The end lies in or behind ``full``, and nothing from ``empty`` on: halve what is between."""
    while empty > full[-1] + 1:
        at = (full[-1] + 1 + empty) // 2
        found = page(at - 1)
        if not found:
            empty = at
        elif len(found) < most:
            return found
        else:
            full = found
    return full
