"""Sends checked windows through a publisher, and says when a commit is due."""

from __future__ import annotations

import time

from transforms.brokers import Publisher, PublishOptions
from transforms.marking import MARKER
from transforms.replay.plans import COMMIT_MESSAGES, Plan
from transforms.replay.window_reader import Checked

__all__ = ["COMMIT_SECONDS", "TIMED_COMMIT_SECONDS", "Sender", "publish_options"]

COMMIT_SECONDS = 2.0
"""Age of the oldest message sent at which a commit is due."""
TIMED_COMMIT_SECONDS = 0.5
"""The same where messages keep their spacing: a read-committed consumer sees them by commits."""
_SEND_MESSAGES = 1_000
"""Messages handed to a publisher at a time; it makes Python objects of them, so few keep memory low."""
_COMMIT_BYTES = 16 << 20


class Sender:
    """Sends checked windows and keeps track of what is not confirmed yet."""

    def __init__(
        self, publisher: Publisher, options: PublishOptions, seconds: float = COMMIT_SECONDS
    ) -> None:
        """Send through an open publisher; ``seconds`` is the age at which a commit is due."""
        self._seconds = seconds
        self._publisher = publisher
        self._options = options
        self._pending: list[Checked] = []
        self._rows = self._bytes = 0
        self._since = 0.0
        self.unconfirmed = 0

    @property
    def rows(self) -> int:
        """Rows of the lane that the next commit stands for."""
        return self._rows

    @property
    def room(self) -> int:
        """Messages that still fit into the present commit, at least one."""
        return max(1, COMMIT_MESSAGES - self.unconfirmed)

    def send(self, checked: Checked) -> None:
        """Hand a window to the publisher. Raises ``TransientError`` like it."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(checked)
        self._rows += len(checked.window)
        self._bytes += checked.messages.nbytes
        self.unconfirmed += len(checked.messages)
        for start in range(0, len(checked.messages), _SEND_MESSAGES):
            self._publisher.send(checked.messages.slice(start, _SEND_MESSAGES), self._options)

    def due(self) -> bool:
        """Whether a commit is due, by the amount or age of unconfirmed messages."""
        return bool(self._pending) and (
            self._rows >= COMMIT_MESSAGES
            or self._bytes >= _COMMIT_BYTES
            or time.monotonic() - self._since >= self._seconds
        )

    def commit(self, done: int) -> list[Checked]:
        """Wait until all sent messages are confirmed.

        Args:
            done: rows of the lane handled before the unconfirmed ones.

        Returns:
            The windows sent since the last commit, without refused messages.

        Raises:
            TransientError: begin again.
        """
        if not self._pending:
            return []
        undelivered = self._publisher.commit(done + self._rows)
        settled = self._pending
        if undelivered:
            reasons = {message.id: message.reason for message in undelivered}
            for checked in settled:
                checked.lose(reasons)
        self.forget()
        return settled

    def forget(self) -> None:
        """Drop unconfirmed windows, because they are sent again."""
        self._pending, self._rows, self._bytes, self.unconfirmed = [], 0, 0, 0


def publish_options(plan: Plan, topic: str) -> PublishOptions:
    """How a plan's messages are published to one of its topics."""
    by_key = topic in plan.keyed or plan.options.partitions == "key"
    return PublishOptions(
        original_time=plan.options.timestamp == "original",
        partitions="key" if by_key else "original",
        extra_headers=[(MARKER, plan.job.encode())] if plan.options.mark else (),
    )
