"""Sending archived messages again: plan, read, verify, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from transforms.brokers import Destination, Publisher
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.plans import Options, Plan
from transforms.selection import Selection

__all__ = ["Failure", "Report", "freeze_plan", "make_plan", "replay_inline", "replay_lane"]

ERRORS_KEPT = 100

Progress = Callable[[int, int, int], object]
"""Called with messages published, failed and planned, at most once per commit."""


@dataclass(frozen=True)
class Failure:
    """A message that was not published.

    Attributes:
        id: the message's id.
        location: the file that should hold it.
        category: ``missing`` (no file), ``damaged`` (file cannot be decoded), ``position`` (behind the
            last row), ``mismatch`` (another id or checksum), ``outside`` (no configured lake),
            ``cannot_carry`` or ``undelivered`` (refused by the destination).
        reason: one sentence, without any payload.
    """

    id: str
    location: str
    category: str
    reason: str


@dataclass
class Report:
    """What a job did. Every planned message is counted exactly once.

    Attributes:
        job: the job's id.
        destination: the destination's topic.
        planned: messages of the plan.
        published: messages that this run sent and the destination confirmed.
        already_published: messages that earlier runs of the job had published.
        failed: messages that were not published, by category.
        errors: the first 100 of them.
        verified_by_checksum: messages published whose content matched the index's checksum.
        verified_by_id: messages published that have no checksum, whose id alone was compared.
        reduced: messages sent in a reduced form, because the job is lossy.
        may_repeat: messages that may have been published twice after a crash.
        seconds: time spent publishing.
        notes: what an operator should know.
    """

    job: str
    destination: str
    planned: int = 0
    published: int = 0
    already_published: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    errors: list[Failure] = field(default_factory=list)
    verified_by_checksum: int = 0
    verified_by_id: int = 0
    reduced: int = 0
    may_repeat: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 where every planned message is published, else 1."""
        return int(self.published + self.already_published != self.planned)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``rate`` in messages per second and ``exit_code``."""
        rate = self.published / self.seconds if self.seconds else 0.0
        return {**asdict(self), "rate": rate, "exit_code": self.exit_code}


def make_plan(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    *,
    url: str,
    destination: Destination,
    options: Options,
    job: str | None = None,
) -> Plan:
    """Find out what a resubmission would do; nothing is stored and nothing sent.

    Args:
        index: where the messages are found.
        lakes: every lake that the index may point into.
        selection: which messages.
        url: the destination's URL, for the record.
        destination: what :meth:`Publisher.destination` said.
        options: how they are to be sent.
        job: the job's id; a new one where it is None.

    Raises:
        TransientError: the index is away.
    """
    raise NotImplementedError


def freeze_plan(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    *,
    url: str,
    destination: Destination,
    options: Options,
    job: str | None = None,
) -> Plan:
    """Plan as :func:`make_plan` and store the plan in the first lake, so that workers need no index.

    A job that has a stored plan already gets that one, whatever the other arguments say.

    Raises:
        ConfigurationError: the plan has problems; nothing stays stored.
        TransientError: the index or the lake is away.
    """
    raise NotImplementedError


def replay_inline(
    index: Index,
    lakes: Sequence[Lake],
    selection: Selection,
    *,
    url: str,
    publisher: Publisher,
    destination: Destination,
    options: Options,
    job: str | None = None,
    most: int = 1000,
    progress: Progress | None = None,
) -> tuple[Plan, Report]:
    """Plan and publish a small selection at once, through an open publisher, storing nothing.

    After a crash the same request may publish again. The publisher stays open.

    Args:
        index: where the messages are found.
        lakes: every lake that the index may point into.
        selection: which messages.
        url: the destination's URL, for the record.
        publisher: used by this call alone while it lasts; ``begin`` was called when it was opened.
        destination: what ``publisher.destination()`` said, which may be kept for a while.
        options: how they are to be sent.
        job: the job's id; a new one where it is None.
        most: larger selections are refused, since a job is what they need.
        progress: told what is done.

    Raises:
        ConfigurationError: the plan has problems, or more than ``most`` messages.
        TransientError: index, lake or broker is away; what was sent may have arrived.
    """
    raise NotImplementedError


def replay_lane(
    plan: Plan,
    lane: int,
    lakes: Sequence[Lake],
    publisher: Publisher,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Publish one lane of a stored plan in order, going on where an earlier run ended.

    Transient trouble of lake and broker is waited out. Delivery: as ``Destination.deduplication`` says.

    Args:
        plan: the job's stored plan.
        lane: one of ``plan.lanes``.
        lakes: every lake that the plan may point into; the plan lies in the first.
        publisher: opened under the lane's own name, ``<job>-<lane>``; not yet begun.
        stopped: asked between commits; once true the lane ends early and may be resumed.
    """
    raise NotImplementedError
