"""The outcome of a job's messages: counted, stored between runs, and reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from transforms.errors import PermanentError
from transforms.stored import dump, from_fields, load
from transforms.times import iso_time

__all__ = ["ERRORS_KEPT", "Failure", "Report", "Tally"]

ERRORS_KEPT = 100


@dataclass(frozen=True)
class Failure:
    """A message that was not published.

    Attributes:
        id: the message's id.
        location: its file.
        category: ``missing`` (no file), ``damaged`` (file cannot be decoded), ``position`` (after the last
            row), ``mismatch`` (another id or checksum), ``outside`` (no configured lake),
            ``cannot_carry``, ``not_restored`` (the stored payload of a dead letter is not available) or
            ``undelivered`` (refused by the destination).
        reason: one sentence, without any payload.
    """

    id: str
    location: str
    category: str
    reason: str


@dataclass
class Tally:
    """Handled messages by outcome; see :class:`Report`.

    ``last_publish_time_us`` is in microseconds since 1970.
    """

    published: int = 0
    verified_by_checksum: int = 0
    verified_by_id: int = 0
    reduced: int = 0
    may_repeat: int = 0
    last_publish_time_us: int | None = None
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    errors: list[Failure] = field(default_factory=list)

    @property
    def done(self) -> int:
        """All handled messages."""
        return self.published + sum(self.failed.values())

    def fail(self, category: str, reason: str, messages: Iterable[tuple[str, str]]) -> None:
        """Count messages, given as (id, location), that are not published."""
        for id, location in messages:
            self.failed[category] = self.failed.get(category, 0) + 1
            if len(self.errors) < ERRORS_KEPT:
                self.errors.append(Failure(id, location, category, reason))

    def add(self, other: Tally) -> None:
        """Count another tally's messages too."""
        for name in ("published", "verified_by_checksum", "verified_by_id", "reduced", "may_repeat"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for category, count in other.failed.items():
            self.failed[category] = self.failed.get(category, 0) + count
        for source, counts in other.sources.items():
            mine = self.sources.setdefault(source, {"published": 0, "failed": 0})
            for name, count in counts.items():
                mine[name] += count
        times = self.last_publish_time_us, other.last_publish_time_us
        self.last_publish_time_us = max((t for t in times if t is not None), default=None)
        self.errors += other.errors[: ERRORS_KEPT - len(self.errors)]

    def to_json(self) -> str:
        """The stored form."""
        return dump(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes | memoryview, what: str = "the progress of a job") -> Tally:
        """The inverse of :meth:`to_json`.

        Args:
            what: names the object in errors.

        Raises:
            PermanentError: it is something else, or a newer release wrote it.
        """
        stored = load(text, what)
        try:
            stored["errors"] = [from_fields(Failure, error) for error in stored["errors"]]
            return from_fields(cls, stored)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PermanentError(f"{what} is damaged: put back a whole copy of it.") from error


@dataclass
class Report(Tally):
    """The result of a job. Every handled message is counted exactly once.

    Attributes:
        job: the job's id.
        destination: the destination's topic.
        planned: messages of the plan.
        published: messages sent by this run and confirmed.
        already_published: messages published by earlier runs of the job.
        last_publish_time_us: how far all of it is, the lowest publish time over the lanes that are not done;
            ``last_publish_time`` in ISO 8601 in the printed report.
        sources: messages published and failed by source, in all runs.
        failed: messages that were not published, by category; in all runs, like the following attributes.
        errors: the first 100 of these.
        verified_by_checksum: published messages whose content matched the index's checksum.
        verified_by_id: published messages without a checksum, compared by id alone.
        reduced: published messages sent in a reduced form, because the job is lossy.
        may_repeat: messages that may have been published twice after a crash, in any run.
        seconds: time spent publishing.
        notes: what an operator should know.
        halted: ``pause`` or ``cancel`` if the job ended early for that.
    """

    job: str = ""
    destination: str = ""
    planned: int = 0
    already_published: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    halted: str | None = None

    @property
    def exit_code(self) -> int:
        """0 if every planned message is published, else 1."""
        return int(self.published + self.already_published != self.planned)

    def settle(self, outcome: Tally, earlier: Tally, seconds: float) -> None:
        """Set the outcome of all runs; ``earlier`` is the outcome before this one."""
        self.add(outcome)
        self.published -= earlier.published
        self.already_published = earlier.published
        self.seconds = seconds
        left = self.planned - outcome.done
        self.halted = self.halted if left else None
        if left:
            was = {
                None: "",
                "pause": ", because the job was paused",
                "cancel": ", because the job was cancelled",
            }
            advice = "" if self.halted == "cancel" else f": continue with `resume: {self.job}`"
            self.notes.append(f"{left} messages were not handled{was[self.halted]}{advice}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``rate`` in messages per second and ``exit_code``."""
        rate = self.published / self.seconds if self.seconds else 0.0
        report = asdict(self) | {"rate": rate, "exit_code": self.exit_code}
        report["last_publish_time"] = iso_time(report.pop("last_publish_time_us"))
        first = [f.name for f in fields(Report) if f.name in {"job", "destination", "planned"}]
        return {name: report[name] for name in [*first, *(n for n in report if n not in first)]}
