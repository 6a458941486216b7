"""A resubmission as the index stores it: one JSON object, which only :mod:`transforms.jobs` changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

__all__ = ["Approval", "Lease", "Progress", "Row", "SourceProgress", "State"]

State = Literal["PLANNED", "QUEUED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED"]


class SourceProgress(TypedDict):
    """Messages of one source so far.

    Attributes:
        planned: how many are to be sent.
        published: how many the destination has confirmed.
        failed: how many were given up.
    """

    planned: int
    published: int
    failed: int


class Progress(SourceProgress, total=False):
    """Messages of all sources so far; what is not known yet is missing or None.

    Attributes:
        rate: messages per second, of late.
        seconds_left: estimated from the rate.
        last_publish_time: how far all of it is in original publish time, the lowest over the lanes that are
            not done; ISO 8601.
        sources: the same by source.
    """

    rate: float | None
    seconds_left: float | None
    last_publish_time: str | None
    sources: Mapping[str, SourceProgress]


class _Held(TypedDict):
    owner: str
    until: str


class Lease(_Held, total=False):
    """Who works on a job.

    Attributes:
        owner: ``HOST:PID:`` and a random part.
        until: when it ends unless it is renewed, ISO 8601.
        launching: true while it is held for a process that is being started.
    """

    launching: bool


class Approval(TypedDict):
    """The approval of a plan.

    Attributes:
        plan: fingerprint of the frozen plan, None until it is made.
        planned_by: who asked for the plan.
        by: who approved it, None until somebody has.
        at: when, ISO 8601.
    """

    plan: str | None
    planned_by: str | None
    by: str | None
    at: str | None


class _Always(TypedDict):
    id: str
    version: int
    state: State
    reason: str | None
    mode: Literal["inline", "job"]
    requested_by: str | None
    created: str
    started: str | None
    finished: str | None
    destination: str
    topic: str
    selection: Mapping[str, Any]
    options: Mapping[str, Any]
    plan: Mapping[str, Any] | None
    rate: Mapping[str, float | None]
    progress: Progress
    errors: list[dict[str, Any]]
    report: Mapping[str, Any] | None
    lease: Lease | None
    attempts: int
    retry_of: str | None
    retried_by: str | None
    idempotency_key: str | None
    request: str | None
    run: Mapping[str, Any] | None
    cleared: str | None


class Row(_Always, total=False):
    """A job. JSON types only; times are ISO 8601 in UTC with microseconds.

    Attributes:
        id: begins with the time of the request, so that ids sort by it.
        version: counts the changes; a change names the version that it replaces.
        state: one of ``State``. ``QUEUED`` is never stored: it is how a running job that nobody
            works on is shown, see :func:`transforms.jobs.states.shown_state`.
        reason: why it is in that state, or what it waits for, in a sentence.
        mode: ``inline`` where the service sends by itself, else ``job``.
        requested_by: who asked for it.
        created: when it was asked for.
        started: when its plan was ready.
        finished: when it ended.
        destination: the configured name, or the URL that the command was given.
        topic: may be a pattern with ``{topic}``.
        selection: what to send, see :class:`transforms.selection.Selection`.
        options: how, see :class:`transforms.replay.options.Options`.
        plan: its figures, see :meth:`transforms.replay.plans.Plan.report`; None until it is planned.
        rate: ``messages_per_second`` and ``bytes_per_second`` at most; None is unlimited.
        progress: how far it is.
        errors: the first hundred messages that were not published, see
            :class:`transforms.replay.report.Failure`.
        report: the whole account, once it has ended.
        lease: who works on it, None where nobody does.
        attempts: how often its process was lost since it last made progress.
        retry_of: the job whose failed messages it sends.
        retried_by: the job that sends what failed of this one.
        idempotency_key: what the requester calls the request.
        request: the body that came with that key.
        run: what finds its process again, see :meth:`resubmit_api.launchers.Launcher.start`.
        cleared: when its files were removed from the lake.
        run_key: who ran its plan, and with which key.
        refused: whether the request was at fault, where sending inline failed.
        note: why it was asked for, such as a ticket.
        approval: of a plan that a second person has to approve, see :class:`Approval`.
        notify: whether the service's webhook is to report its end, or has.
        abridged: whether a listing left out ``ids`` and ``where`` of the selection, and the errors.
        errors_listed: how many errors it left out.
    """

    run_key: list[str | None]
    refused: bool
    note: str | None
    approval: Approval
    notify: Literal["due", "sent", "failed"]
    abridged: bool
    errors_listed: int
