"""The batch job that sends archived messages again: plan, publish on Beam, report.

Its row in the index shows its progress; wishes in the row are followed while it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, WorkerOptions

from pipelines.connections import look_up, open_index, open_lakes, patiently, topics_at
from pipelines.job_rows import new_job, row_from_plan, store, user
from pipelines.rechecks import Rechecks
from pipelines.runners.in_process import in_process_runner, keep_heap
from pipelines.runners.signals import stopped_by_signals
from pipelines.runners.streaming import distant_runner
from pipelines.settings.replay import ResubmitSettings
from pipelines.settings.runner import IN_PROCESS
from pipelines.terminal.text import without_login
from transforms.brokers import Destination
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index
from transforms.job_row import Row
from transforms.jobs.approval import check_fingerprint
from transforms.jobs.keeper import Keeper
from transforms.jobs.leases import UnknownJobError, held_by, new_owner
from transforms.jobs.planning_index import interruptible
from transforms.jobs.rows import by_command, options_of, record, selection_of
from transforms.jobs.states import begin, begin_again
from transforms.lake import Lake
from transforms.replay import LookUp, Plan, Progress, Report, check_rest, freeze_plan, freeze_retry
from transforms.replay.control import last_version
from transforms.replay.ledger import total
from transforms.replay.plans import load_plan
from transforms.resubmit import ResubmitLanes
from transforms.retry import retry
from transforms.stop import failure, stop, stopping

__all__ = ["run"]

_DATAFLOW = "DataflowRunner"
_MAX_ERROR_TEXT = 2000
_HANDED_OVER = 15.0
"""Seconds to wait for the process that started this one, or for the lease of one that died."""


def run(
    settings: ResubmitSettings,
    beam_args: Sequence[str] = (),
    *,
    on_plan: Callable[[Plan], object] = lambda _plan: None,
    on_pause: Callable[[str], object] = lambda _job: None,
    progress: Progress = lambda _published, _failed, _planned: None,
) -> Report:
    """Publish a selection, the plan in ``settings.plan``, or the rest of a job.

    The job's row is created or taken over. Changes of the row pause, cancel and slow down the job, and
    resume it if ``settings.follow`` holds it meanwhile. SIGTERM and SIGINT pause it cleanly.

    Args:
        settings: the command's settings.
        beam_args: for Beam; without a runner the job runs in this process.
        on_plan: called with the stored plan before anything is sent.
        on_pause: called with the job's id when it is paused and held.
        progress: called with messages published, failed and planned, from another thread.

    Raises:
        ConfigurationError: the plan has problems, a setting is not valid, or another process works on the
            job.
        StoppedError: it was cancelled or stopped while it was planned.
        TransientError: index, lake or broker did not answer for a minute while planning.
        WrongStateError: the plan runs or ran already, is not ready, or has problems.
    """
    # Arrow's preferred allocator keeps memory freed by planning; this one returns it.
    pa.set_memory_pool(pa.system_memory_pool())
    lakes = open_lakes(settings)
    with closing(open_index(settings)) as index, stopped_by_signals(stop):
        row, keeper = _begin(settings, index, lakes[0], progress)
        with keeper:
            stored = _frozen(settings, interruptible(index, partial(_check, keeper)), lakes, row)
            pa.default_memory_pool().release_unused()
            keeper.planned(stored)
            on_plan(stored)
            publish = partial(_publish, settings, stored, beam_args)
            check = partial(check_rest, stored, lakes, topics_at(settings, stored.destination))
            held = partial(on_pause, stored.job) if settings.follow else None
            report = _send(stored, lakes[0], publish, keeper, check=check, held=held)
            keeper.finish(report, stopped=stopping())
            return report


def _send(
    stored: Plan,
    lake: Lake,
    publish: Callable[[], None],
    keeper: Keeper,
    *,
    check: Callable[[], list[str]],
    held: Callable[[], object] | None,
) -> Report:
    report = Report(job=stored.job, destination=stored.topic, planned=stored.messages)
    earlier = now = total(lake, stored)
    goes_on, seconds = earlier.done < stored.messages, 0.0
    while goes_on:
        _refuse(patiently(check, "check the destination again"))
        started = time.monotonic()
        with Rechecks(check, keeper.halt) as rechecks:
            publish()
        seconds += time.monotonic() - started
        now = retry(lambda: total(lake, stored), f"read the progress of job {stored.job}")
        if now.done < stored.messages:
            _refuse(rechecks.problems)
        goes_on = now.done < stored.messages and keeper.goes_on(stopping, held)
    report.halted = keeper.halted
    report.settle(now, earlier, seconds)
    return report


def _check(keeper: Keeper) -> None:
    keeper.check(stopping=stopping())


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(problems)


def _publish(settings: ResubmitSettings, stored: Plan, beam_args: Sequence[str]) -> None:
    options = PipelineOptions(list(beam_args))
    named = options.view_as(StandardOptions).runner
    here = named in IN_PROCESS
    keep_heap()
    pipeline = beam.Pipeline(in_process_runner() if here else distant_runner(options), options)
    lanes = ResubmitLanes(
        stored,
        settings.lakes,
        settings.lake_config,
        settings.destination_config,
        workers=_workers(options, stored) if named == _DATAFLOW else None,
    )
    _ = pipeline | "Resubmit" >> lanes
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        # Runners pass on only the text of a worker's exception.
        cause = failure()
        if stopping() and isinstance(cause, TransientError):
            return  # unconfirmed messages are sent by the next run
        if cause is not None:
            raise cause from error
        if not here and isinstance(error, (RuntimeError, OSError)):
            raise TransientError(f"{named}: {str(error).strip()[:_MAX_ERROR_TEXT]}") from error
        raise


def _workers(options: PipelineOptions, stored: Plan) -> int:
    """Lanes at a time, which share a rate: too high is too slow, too low would exceed the limit."""
    return options.view_as(WorkerOptions).max_num_workers or max(len(stored.lanes), 1)


def _begin(settings: ResubmitSettings, index: Index, lake: Lake, progress: Progress) -> tuple[Row, Keeper]:
    """The job's row, and the keeper that holds it."""
    owner = new_owner()
    if settings.plan is not None:
        row = _ready(settings, index, lake)
    elif settings.resume is None:
        _check_destination(look_up(settings))
        row = store(index, held_by(new_job(settings, "RUNNING", asdict(settings.rate)), owner), "resubmit")
    else:
        row = _job_to_continue(settings, index, lake, owner)
    keeper = Keeper(index, lake, row["id"], owner=owner, on_lost=stop, progress=progress)
    if settings.plan is not None:
        row = _taken(keeper, "run", lambda row: begin(row, user(), asdict(settings.rate)))
    elif settings.resume is not None:
        row = _taken(keeper, "resume", begin_again)
    return row, keeper


def _check_destination(found: Destination | LookUp) -> None:
    """Refuse an unusable destination before the job is created."""
    if isinstance(found, Destination):
        _refuse(list(found.problems))


def _ready(settings: ResubmitSettings, index: Index, lake: Lake) -> Row:
    """Check that the plan may run and is in the lake; nothing is changed."""
    id = settings.plan or ""
    row = patiently(lambda: index.get_job(id), "look up the plan")
    if row is None:
        raise UnknownJobError(f"There is no plan {id!r}: check the id and --index.")
    begin(row, None)
    _check_place(settings, patiently(lambda: load_plan(lake, id), "read the plan"), row)
    patiently(lambda: check_fingerprint(lake, row), "read the plan")
    return row


def _job_to_continue(settings: ResubmitSettings, index: Index, lake: Lake, owner: str) -> Row:
    """The job to continue; its row is created if the index was created anew since."""
    id = settings.resume or ""
    row = index.get_job(id)
    if row is None:
        # Its wishes continue after those in the lake, from the lost row.
        made: Row = {**row_from_plan(load_plan(lake, id)), "version": last_version(lake, id)}
        return store(index, held_by(made, owner), "resubmit")
    # Otherwise only this process would know of the service's mistake.
    if by_command(row) and (stored := _stored(lake, id)):
        _check_place(settings, stored, row)
    return row


def _check_place(settings: ResubmitSettings, stored: Plan, row: Row) -> None:
    if settings.destination in {None, stored.destination}:
        return
    what, new = ("plan", "make a new plan") if settings.plan else ("job", "start a new job")
    if not by_command(row):  # readers of the message know destinations only by name
        raise ConfigurationError(
            f"{what.capitalize()} {row['id']} sends to {row['topic']} at {row['destination']}, which "
            f"had another address when it was planned; remove --destination, or {new}."
        )
    given, planned = map(without_login, (settings.destination or "", stored.destination))
    login = " with another login" if given == planned else ""
    raise ConfigurationError(
        f"--destination {given}: {what} {row['id']} sends to {planned}{login}; "
        f"remove --destination, or {new}."
    )


def _taken(keeper: Keeper, action: str, otherwise: Callable[[Row], Row]) -> Row:
    """The job, held: handed to this process, or changed as somebody here asks for."""
    return patiently(
        lambda: keeper.take(
            otherwise, patience=_HANDED_OVER, note=lambda _, after: record(after, action, user())
        ),
        "take the job",
    )


def _frozen(settings: ResubmitSettings, index: Index, lakes: Sequence[Lake], row: Row) -> Plan:
    """The job's stored plan, made now if there is none."""
    stored = _stored(lakes[0], row["id"])
    if stored is None and row["plan"] is not None:
        # Another plan would hold other messages, and the progress of the first would be unknown.
        raise ConfigurationError(f"The plan of job {row['id']} is missing from the lake: start a new job.")
    if stored is None:
        stored = patiently(lambda: _freeze(settings, index, lakes, row), "plan")
    _check_place(settings, stored, row)  # a retry goes to the same destination, or nowhere
    return stored


def _stored(lake: Lake, job: str) -> Plan | None:
    try:
        return patiently(lambda: load_plan(lake, job), "read the plan")
    except ConfigurationError:
        return None


def _freeze(settings: ResubmitSettings, index: Index, lakes: Sequence[Lake], row: Row) -> Plan:
    if row["retry_of"] is not None and _is_kept(index, row["retry_of"]):
        return freeze_retry(lakes[0], row["retry_of"], row["id"])
    if settings.destination is None:
        raise ConfigurationError(f"Job {row['id']} has no plan yet: give --destination.")
    return freeze_plan(
        index,
        lakes,
        selection_of(row),
        url=settings.destination,
        destination=look_up(settings),
        options=options_of(row),
        job=row["id"],
    )


def _is_kept(index: Index, id: str) -> bool:
    """Whether the lake has a job's failed rows; an inline job is retried by ids."""
    row = index.get_job(id)
    return row is None or row["mode"] == "job"
