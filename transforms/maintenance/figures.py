"""The figures of a lake from its own segments and claims; no file of messages is read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from transforms.catalogue import Entry, Segment, segments
from transforms.lake import Lake, ObjectMissingError
from transforms.maintenance.chains import chains, claim_paths, sources
from transforms.maintenance.patience import patiently
from transforms.reading.claims import Chain, Claim
from transforms.stored import load_as

__all__ = ["Figures", "figures"]

_WORKERS = 16
_SAMPLE = 500
_FILES = 100
_DAY_US = 86_400_000_000
_SHORTEST = 1 / 24


@dataclass(frozen=True)
class Figures:
    """What a lake holds.

    Attributes:
        sources: sources that were archived.
        chains: partitions, of all incarnations.
        claims: single claims.
        segments: segments.
        folded: claims in segments.
        files: files of messages.
        messages: messages in them.
        bytes: of the files.
        claim_bytes: of the single claims.
        segment_bytes: of the segments.
        days: from the first claim to the last, at least an hour; 0 where none says when it was made.
        estimated: whether single claims were more than are read; then they count as those that were read.
    """

    sources: int
    chains: int
    claims: int
    segments: int
    folded: int
    files: int
    messages: int
    bytes: int
    claim_bytes: int
    segment_bytes: int
    days: float
    estimated: bool


def figures(lake: Lake) -> Figures:
    """Add up all segments, and single claims, of which 500 at most are read; sizes are of 100 files.

    Files of messages without positions have no claims and do not count.

    Raises:
        TransientError: the lake did not answer for five minutes.
    """
    named = sources(lake)
    known = [segment for source in named for segment in segments(lake, source)]
    partitions = [chain for source in named for chain in chains(lake, source)]
    sample, claims = _sample(path for chain in partitions for path in _places(lake, chain))
    with ThreadPoolExecutor(_WORKERS) as pool:
        said = [one for one in pool.map(_summary, known) if one is not None]
        read = [one for one in pool.map(partial(_read, lake), sample) if one is not None]
        paths = [path for entry in _some_entries(known, [entry for entry, _ in read]) for path in entry.files]
        sizes = [size for size in pool.map(partial(_size, lake), paths[:_FILES]) if size is not None]
    times = [entry.claim.archived_us for entry, _ in read if entry.claim.archived_us is not None]
    times += [one[f"{side}_archived_us"] for one in said for side in ("oldest", "newest")]
    share = claims / max(1, len(read))
    files = sum(one["files"] for one in said) + share * sum(len(entry.claim.directories) for entry, _ in read)
    return Figures(
        sources=len(named),
        chains=len(partitions),
        claims=claims,
        segments=len(known),
        folded=sum(one["entries"] for one in said),
        files=round(files),
        messages=round(sum(one["rows"] for one in said) + share * sum(entry.claim.rows for entry, _ in read)),
        bytes=round(files * sum(sizes) / max(1, len(sizes))),
        claim_bytes=round(share * sum(size for _, size in read)),
        segment_bytes=sum(segment.size for segment in known),
        days=max(_SHORTEST, (max(times) - min(times)) / _DAY_US) if times else 0,
        estimated=claims > len(read),
    )


def _places(lake: Lake, chain: Chain) -> Iterator[tuple[Chain, str]]:
    return ((chain, path) for path in claim_paths(lake, chain))


def _sample(places: Iterator[tuple[Chain, str]]) -> tuple[list[tuple[Chain, str]], int]:
    """Some of all places, each as likely as another; and how many there are."""
    kept: list[tuple[Chain, str]] = []
    chance, count = random.Random(0), 0  # noqa: S311
    for count, place in enumerate(places, start=1):
        if len(kept) < _SAMPLE:
            kept.append(place)
        elif (at := chance.randrange(count)) < _SAMPLE:
            kept[at] = place
    return kept, count


def _read(lake: Lake, place: tuple[Chain, str]) -> tuple[Entry, int] | None:
    chain, path = place
    try:
        data = patiently(lambda: lake.get(path), f"read {path}")
    except ObjectMissingError:
        return None  # it was folded or has expired since it was listed
    claim = load_as(Claim, data, lake.location(path))
    return Entry(chain, int(path.rpartition("/")[2]), claim), len(data)


def _summary(segment: Segment) -> dict[str, Any] | None:
    try:
        return patiently(segment.summary, "read a segment")
    except ObjectMissingError:
        return None  # all that it names has expired since it was listed


def _some_entries(known: list[Segment], read: list[Entry]) -> Iterator[Entry]:
    yield from read
    for segment in reversed(known):
        yield from segment.entries()
        return


def _size(lake: Lake, path: str) -> int | None:
    try:
        return patiently(lambda: lake.open(path), f"look up {path}").size
    except ObjectMissingError:
        return None
