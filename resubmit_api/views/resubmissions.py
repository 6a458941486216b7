"""Planning resubmissions, asking for them and watching them."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import url_for

from resubmit_api.auth import open_to
from resubmit_api.auth_grants import granted, may_see, who
from resubmit_api.auth_tokens import Role
from resubmit_api.cursors import job_cursor, read_job_cursor
from resubmit_api.errors import needs, problem
from resubmit_api.job_rows import plan_to_json
from resubmit_api.schemas import Job, JobPage, JobsQuery, Plan, ReplayRequest
from resubmit_api.views.context import index as callers_index
from resubmit_api.views.context import parts, problems
from transforms.replay import make_plan
from transforms.replay.plans import Options

__all__ = ["blueprint"]

blueprint = APIBlueprint("resubmissions", __name__, url_prefix="/v1", tag="Resubmissions")

_LOCATION = {"Location": {"description": "Address of the resubmission", "schema": {"type": "string"}}}


@blueprint.post("/plans")
@open_to(Role.OPERATOR)
@blueprint.input(ReplayRequest)
@blueprint.output(Plan)
@blueprint.doc(operation_id="makePlan", responses=problems(400, 413, 415, 422, 503))
def make(json_data: ReplayRequest) -> dict[str, Any]:
    """Plan a resubmission.

    What it would send and what stands against it. Nothing is stored and nothing sent.
    """
    backends, json_data = parts().backends, granted(callers_index(), json_data)
    name, topic = json_data.destination, json_data.topic
    with needs(f"Destination {name}"), backends.publishers.lend(name, topic) as lent:
        url, destination = lent.url, lent.destination
    with needs("The index"):
        plan = make_plan(
            backends.index,
            backends.lakes,
            json_data.selection,
            url=url,
            destination=destination,
            options=Options(**json_data.options.model_dump(exclude={"order"})),
        )
    return plan_to_json(plan, name)


@blueprint.post("/resubmissions")
@open_to(Role.OPERATOR)
@blueprint.input(ReplayRequest)
@blueprint.output(Job, status_code=202)
@blueprint.doc(
    operation_id="resubmit", responses={202: {"headers": _LOCATION}, **problems(400, 413, 415, 422, 503)}
)
def create(json_data: ReplayRequest) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Resubmit messages.

    A small selection is sent at once and has mostly ended when the answer comes; a large one
    becomes a job. Its state tells.
    """
    row = parts().jobs.submit(granted(callers_index(), json_data), who().name)
    return row, 202, {"Location": url_for("resubmissions.get", id=row["id"])}


@blueprint.get("/resubmissions")
@open_to(Role.VIEWER)
@blueprint.input(JobsQuery, location="query")
@blueprint.output(JobPage)
@blueprint.doc(operation_id="listResubmissions", responses=problems(400, 422, 503))
def index(query_data: JobsQuery) -> dict[str, Any]:
    """List resubmissions.

    The latest first, a page at a time.
    """
    before = None if query_data.cursor is None else read_job_cursor(query_data.cursor)
    rows = parts().jobs.list(query_data.limit, before)
    more = len(rows) == query_data.limit
    shown = [row for row in rows if may_see(row)]
    return {"resubmissions": shown, "next": job_cursor(rows[-1]["id"]) if more else None}


@blueprint.get("/resubmissions/<id>")
@open_to(Role.VIEWER)
@blueprint.output(Job)
@blueprint.doc(operation_id="getResubmission", responses=problems(404, 503))
def get(id: str) -> dict[str, Any]:
    """Look at a resubmission.

    Its state, figures and the first messages that were not published.
    """
    row = parts().jobs.get(id)
    if not may_see(row):
        raise problem(404, "resubmission", "No resubmission has that id.")
    return row
