"""How long trouble is waited out."""

from __future__ import annotations

import time

import pytest

from transforms.errors import TransientError
from transforms.retry import Patience


def test_a_server_that_fails_late_was_away_since_the_call_began() -> None:
    patience = Patience(0.2)

    def times_out() -> None:
        time.sleep(0.3)
        raise TransientError("timed out")

    with pytest.raises(TransientError, match="timed out"):
        patience.watched(times_out)()
    assert patience.ended
    patience.watched(lambda: None)()
    assert not patience.ended
