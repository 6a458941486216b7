"""What a job saves of its reading does not grow with what it reads, and older states are understood."""

from __future__ import annotations

import json

from transforms.read_batches import Positions, PositionsTracker, _PositionsCoder


def test_what_is_saved_has_the_same_size_however_many_ranges_were_taken() -> None:
    tracker, coder = PositionsTracker(Positions()), _PositionsCoder()
    sizes = set()
    for number in range(1000, 9999):
        assert tracker.try_claim(f"0123456789ab:{number}")
        sizes.add(len(coder.encode(tracker.current_restriction())))
    assert len(sizes) == 1
    assert max(sizes) < 100


def test_a_checkpoint_hands_on_where_reading_came() -> None:
    tracker = PositionsTracker(Positions())
    assert tracker.try_claim("a:1")
    assert tracker.try_split(0) == (Positions(done=True, at="a:1"), Positions(at="a:1"))
    assert not tracker.try_claim("a:2")
    tracker.check_done()


def test_positions_that_an_older_release_saved_are_kept_until_a_range_is_taken() -> None:
    older = json.dumps({"v": 1, "next": {"orders~1/0": 7}, "done": False}).encode()
    tracker = PositionsTracker(_PositionsCoder().decode(older))
    assert tracker.current_restriction() == Positions({"orders~1/0": 7})
    assert tracker.try_claim("a:1")
    assert tracker.current_restriction() == Positions(at="a:1")
