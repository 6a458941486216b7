"""Finds the claims that reading no longer needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import quote, unquote

from transforms.lake import INTERNAL, Lake
from transforms.reading.claims import Chain, Claim
from transforms.stored import load_as

__all__ = ["sources", "spent_claims"]


def sources(lake: Lake) -> list[str]:
    """The names of all sources of a lake, sorted."""
    folder = f"{INTERNAL}sources"
    return sorted({unquote(path.split("/")[-2]) for path, _ in lake.list(folder)})


def spent_claims(lake: Lake, source: str, kept_from: Mapping[Chain, int]) -> list[str]:
    """Paths of the deletable claims of a source, in the order of each chain.

    A chain keeps its newest claim and every claim from its durable position on, because reading begins
    there if the broker's own position is lost. Spent claims lie before that, and before the first kept
    file, so the rest is one chain without a hole.

    Args:
        kept_from: the lowest offset in the files of each chain that has any.
    """
    spent: list[str] = []
    for chain, starts in _chains(lake, source).items():
        path = _path(chain, starts[-1])
        durable = load_as(Claim, lake.get(path), lake.location(path)).durable
        bound = min(durable, kept_from.get(chain, durable))
        spent += [_path(chain, start) for start, end in pairwise(starts) if end <= bound]
    return spent


def _chains(lake: Lake, source: str) -> dict[Chain, list[int]]:
    """The positions at which the claims of each chain of a source begin, in order."""
    quoted = quote(source, safe="")
    incarnations = len(list(lake.list(f"{INTERNAL}sources/{quoted}")))
    starts: dict[Chain, list[int]] = defaultdict(list)
    for incarnation in range(1, incarnations + 1):
        folder = Chain(source, incarnation, 0).name.rpartition("/")[0]
        for path, _ in lake.list(f"{INTERNAL}claims/{folder}"):
            partition, start = path.rsplit("/", 2)[1:]
            starts[Chain(source, incarnation, int(partition))].append(int(start))
    return {chain: sorted(each) for chain, each in starts.items()}


def _path(chain: Chain, start: int) -> str:
    return f"{INTERNAL}claims/{chain.name}/{start:020d}"
