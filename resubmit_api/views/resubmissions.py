"""The endpoints that create, list and control resubmissions."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import request, url_for

from resubmit_api.auth import denied, open_to, require
from resubmit_api.auth.grants import granted, may_control, may_see, who
from resubmit_api.auth.tokens import Role
from resubmit_api.cursors import job_cursor, read_job_cursor
from resubmit_api.errors import problem
from resubmit_api.jobs.answers import Answer
from resubmit_api.schemas import CreationHeaders, Job, JobChange, JobPage, JobsQuery, NoBody, ResubmitRequest
from resubmit_api.views.context import digest, parts, problems
from resubmit_api.views.context import index as callers_index

__all__ = ["approved", "blueprint"]

blueprint = APIBlueprint("resubmissions", __name__, url_prefix="/v1/resubmissions", tag="Resubmissions")

_LOCATION = {"Location": {"description": "Address of the resubmission", "schema": {"type": "string"}}}
_Answer = tuple[Answer, int, dict[str, str]]


@blueprint.post("")
@open_to(Role.OPERATOR)
@blueprint.input(CreationHeaders, location="headers")
@blueprint.input(ResubmitRequest)
@blueprint.output(Job, status_code=202)
@blueprint.doc(
    operation_id="resubmit",
    responses={202: {"headers": _LOCATION}, **problems(400, 404, 409, 413, 415, 422, 503)},
)
def create(headers_data: CreationHeaders, json_data: ResubmitRequest) -> _Answer:
    """Resubmit messages.

    Sends a plan, or the current selection. A small selection is sent at once and has usually ended when the
    response arrives; a large one becomes a job. Check its state.
    """
    key, jobs = headers_data.idempotency_key, parts().jobs
    if json_data.plan is not None:
        _controlled(json_data.plan)
        row = jobs.run_plan(json_data.plan, who().name, rate=json_data.rate, key=key, note=json_data.note)
    else:
        asked = granted(callers_index(), json_data.replay())
        row = jobs.submit(asked, who().name, rate=json_data.rate, key=key, body=digest(request.get_json()))
    return _accepted(row)


@blueprint.get("")
@open_to(Role.VIEWER)
@blueprint.input(JobsQuery, location="query")
@blueprint.output(JobPage)
@blueprint.doc(operation_id="listResubmissions", responses=problems(400, 422, 503))
def index(query_data: JobsQuery) -> dict[str, Any]:
    """List resubmissions.

    Latest first, page by page. A page may be short, even empty, before the last one.
    """
    before = None if query_data.cursor is None else read_job_cursor(query_data.cursor)
    rows, following = parts().jobs.page(query_data.filter(), query_data.limit, before, may_see)
    return {"resubmissions": rows, "next": following and job_cursor(following)}


@blueprint.get("/<id>")
@open_to(Role.VIEWER)
@blueprint.output(Job)
@blueprint.doc(operation_id="getResubmission", responses=problems(404, 503))
def get(id: str) -> Answer:
    """Get a resubmission.

    Its state, figures and the first messages that were not published.
    """
    return _visible(id)


@blueprint.patch("/<id>")
@open_to(Role.OPERATOR)
@blueprint.input(JobChange)
@blueprint.output(Job)
@blueprint.doc(operation_id="setRate", responses=problems(400, 404, 409, 413, 415, 422, 503))
def set_rate(id: str, json_data: JobChange) -> Answer:
    """Change the rate or the note.

    The rate of a resubmission that runs or is paused; it applies within about two seconds. The note in any
    state.
    """
    _controlled(id)
    if json_data.rate is None:
        return parts().jobs.set_note(id, json_data.note or None, who().name)
    return parts().jobs.set_rate(id, json_data.rate, who().name)


@blueprint.post("/<id>/approve")
@open_to(Role.OPERATOR)
@blueprint.input(NoBody)
@blueprint.output(Job)
@blueprint.doc(operation_id="approve", responses=problems(400, 403, 404, 409, 413, 415, 422, 503))
def approve(id: str, json_data: NoBody) -> Answer:  # noqa: ARG001 - an empty object
    """Approve a plan.

    Where its destination takes only approved plans. Who asked for the plan cannot approve it; what is
    approved is exactly that plan.
    """
    _controlled(id)
    return approved(id)


@blueprint.post("/<id>/pause")
@open_to(Role.OPERATOR)
@blueprint.input(NoBody)
@blueprint.output(Job)
@blueprint.doc(operation_id="pause", responses=problems(400, 404, 409, 413, 415, 422, 503))
def pause(id: str, json_data: NoBody) -> Answer:  # noqa: ARG001 - an empty object
    """Pause a resubmission.

    It stops sending within about two seconds; messages already sent stay sent.
    """
    _controlled(id)
    return parts().jobs.pause(id, who().name)


@blueprint.post("/<id>/resume")
@open_to(Role.OPERATOR)
@blueprint.input(NoBody)
@blueprint.output(Job)
@blueprint.doc(operation_id="resume", responses=problems(400, 404, 409, 413, 415, 422, 503))
def resume(id: str, json_data: NoBody) -> Answer:  # noqa: ARG001 - an empty object
    """Resume a resubmission.

    One that is paused, or that failed before all messages were handled, continues where it stopped.
    """
    _controlled(id)
    return parts().jobs.resume(id, who().name)


@blueprint.post("/<id>/cancel")
@open_to(Role.OPERATOR)
@blueprint.input(NoBody)
@blueprint.output(Job)
@blueprint.doc(operation_id="cancel", responses=problems(400, 404, 409, 413, 415, 422, 503))
def cancel(id: str, json_data: NoBody) -> Answer:  # noqa: ARG001 - an empty object
    """Cancel a resubmission or a plan.

    Messages already sent stay sent; its figures show how many.
    """
    _controlled(id)
    return parts().jobs.cancel(id, who().name)


@blueprint.post("/<id>/retry")
@open_to(Role.OPERATOR)
@blueprint.input(NoBody)
@blueprint.output(Job, status_code=202)
@blueprint.doc(
    operation_id="retry",
    responses={202: {"headers": _LOCATION}, **problems(400, 404, 409, 413, 415, 422, 503)},
)
def retry(id: str, json_data: NoBody) -> _Answer:  # noqa: ARG001 - an empty object
    """Retry failed messages.

    A new resubmission of exactly the messages that this one could not publish.
    """
    _controlled(id)
    return _accepted(parts().jobs.retry(id, who().name))


def approved(id: str) -> Answer:
    """The plan, approved by the caller; 403 for who asked for it, or has too low a role."""
    require(Role[parts().backends.settings.approver.upper()])
    row = parts().jobs.get(id)
    if "approve" in row["possible"] and row["approval"]["planned_by"] == who().name:
        raise denied("Who asked for a plan cannot approve it: another person must.")
    return parts().jobs.approve(id, who().name)


def _accepted(row: Answer) -> _Answer:
    return row, 202, {"Location": url_for("resubmissions.get", id=row["id"])}


def _visible(id: str) -> Answer:
    row = parts().jobs.get(id)
    if not may_see(row):
        raise problem(404, "resubmission", "No resubmission has this id.")
    return row


def _controlled(id: str) -> None:
    if not may_control(_visible(id)):
        raise denied("This token may not send to the destination of this resubmission.")
