"""The claims of a lake, chain by chain, each from its front."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from urllib.parse import quote, unquote

from transforms.lake import INTERNAL, Lake
from transforms.maintenance.patience import patiently
from transforms.reading.claims import Chain

__all__ = ["chains", "claim_paths", "sources"]

_PAGE = 1000


def sources(lake: Lake) -> list[str]:
    """The names of all sources of a lake, sorted."""
    folder = f"{INTERNAL}sources"
    return sorted({unquote(path.split("/")[-2]) for path, _ in lake.list(folder)})


def chains(lake: Lake, source: str) -> list[Chain]:
    """The chains of a source; none of one whose messages have no positions."""
    incarnations = len(list(lake.list(f"{INTERNAL}sources/{quote(source, safe='')}")))
    found = []
    for incarnation in range(1, incarnations + 1):
        folder = _folder(Chain(source, incarnation, 0)).rpartition("/")[0]
        found += [Chain(source, incarnation, number) for number in sorted(map(int, lake.folders(folder)))]
    return found


def claim_paths(lake: Lake, chain: Chain, after: str | None = None) -> Iterator[str]:
    """The path of each single claim, in order; the store is asked for no more than a thousand at once.

    Args:
        after: only those behind this path.

    Raises:
        TransientError: the lake did not answer for five minutes.
    """
    while page := patiently(partial(_page, lake, _folder(chain), after), "list claims"):
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1]


def _page(lake: Lake, folder: str, after: str | None) -> list[str]:
    listed = (path for path, _ in lake.list(folder, after=after))
    # Object stores list in the order of names, a disk in any.
    return sorted(listed) if lake.url.startswith("file://") else list(islice(listed, _PAGE))


def _folder(chain: Chain) -> str:
    return f"{INTERNAL}claims/{chain.name}"
