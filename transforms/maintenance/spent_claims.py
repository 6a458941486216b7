"""Which claims reading no longer needs."""

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
    """Paths of the claims of a source that may be deleted, each chain's in their order.

    A chain keeps its newest claim and every claim from the position on that this one says is durable:
    reading begins there wherever the broker's own position is lost. What is spent lies before that, and
    before the first file that is kept, so what stays is one chain without a hole.

    Args:
        kept_from: of each chain that has files, the lowest offset in them.
    """
    spent: list[str] = []
    for chain, starts in _chains(lake, source).items():
        path = _path(chain, starts[-1])
        durable = load_as(Claim, lake.get(path), lake.location(path)).durable
        bound = min(durable, kept_from.get(chain, durable))
        spent += [_path(chain, start) for start, end in pairwise(starts) if end <= bound]
    return spent


def _chains(lake: Lake, source: str) -> dict[Chain, list[int]]:
    """Where the claims of each chain of a source begin, in order."""
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
