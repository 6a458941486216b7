"""Where reading goes on is found with few requests, however long a chain of claims is."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import accumulate

import pytest

from tests.servers.long_lake import LongLake, long_lake
from transforms.lake import Lake
from transforms.reading.claims import Chain, Claim, Claims, note
from transforms.reading.newest import newest, resume
from transforms.stored import dump

_A_YEAR = 1_000_000
_CHAIN = Chain("orders", 1, 0)
_FOLDER = "_persistor/claims/orders/0/"


class _Pages:
    def __init__(self, numbers: Sequence[int], most: int) -> None:
        self._numbers, self._most, self.asked = numbers, most, 0

    def __call__(self, after: int) -> Sequence[int]:
        self.asked += 1
        at = bisect_right(self._numbers, after)
        return self._numbers[at : at + self._most]


@pytest.mark.parametrize("seed", range(200))
def test_the_last_numbers_of_any_list_are_found_from_anywhere(seed: int) -> None:
    chance = random.Random(seed)
    count, most = chance.choice([0, 1, 5, 20, 1000, 5000]), chance.choice([1, 7, 1000])
    steps = (chance.choice([1, 3, chance.randrange(1, 10**6)]) for _ in range(count))
    numbers = list(accumulate(steps, initial=chance.choice([0, 10**9])))[:count]
    for near in (0, 1, (numbers or [9])[-1], chance.randrange(1, 10**10)):
        pages = _Pages(numbers, most)
        found = newest(pages, most, near)
        assert list(found) == [] if not numbers else found[-1] == numbers[-1]
        assert pages.asked <= 90


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_a_year_of_claims_takes_few_requests(size: int) -> None:
    numbers = range(10**9, 10**9 + _A_YEAR * size, size)
    pages = _Pages(numbers, 1000)
    assert newest(pages, 1000)[-1] == numbers[-1]
    assert pages.asked <= 20
    pages = _Pages(numbers, 1000)
    assert newest(pages, 1000, numbers[-1] + size)[-1] == numbers[-1]
    assert pages.asked <= 6


@pytest.fixture(scope="module")
def year() -> LongLake:
    with long_lake(f"{_FOLDER}{100 * number:020d}" for number in range(_A_YEAR)) as lake:
        made = Claim(0, 100, 0, "{topic}", "parquet")
        for number in range(_A_YEAR - 5, _A_YEAR):
            claim = replace(made, next=100 * number + 100, durable=100 * (_A_YEAR - 3))
            lake.content[f"{_FOLDER}{100 * number:020d}"] = dump(asdict(claim)).encode()
        yield lake


@pytest.mark.parametrize(
    ("committed", "most", "position"),
    [
        (None, 24, 100 * (_A_YEAR - 3)),
        # NATS keeps no note
        ((100 * (_A_YEAR - 2), ""), 6, 100 * (_A_YEAR - 3)),
        ((100 * (_A_YEAR - 2), note(1, 100 * (_A_YEAR - 3))), 5, 100 * (_A_YEAR - 2)),
        # of another lake
        ((100 * _A_YEAR + 7, note(1, 100 * _A_YEAR)), 8, 100 * (_A_YEAR - 3)),
    ],
)
def test_a_partition_starts_after_a_year_with_few_requests(
    year: LongLake, committed: tuple[int, str] | None, most: int, position: int
) -> None:
    claims = Claims(Lake(year.url, year.config))
    year.asked.clear()
    resumed = resume(claims, _CHAIN, committed)
    assert resumed is not None
    assert resumed.position == position
    assert sorted(resumed.ahead) == list(range(position, 100 * _A_YEAR, 100))
    assert year.asked.total() <= most
    year.asked.clear()
    claims.incarnation("orders", "cluster", "topic")
    assert year.asked.total() <= 3
