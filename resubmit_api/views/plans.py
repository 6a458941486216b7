"""The endpoints of plans: what a resubmission would do, stored so that exactly that can run."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import url_for

from resubmit_api.auth import open_to
from resubmit_api.auth.grants import granted, may_see, who
from resubmit_api.auth.tokens import Role
from resubmit_api.errors import problem
from resubmit_api.jobs.answers import Answer
from resubmit_api.schemas import Job, ReplayRequest
from resubmit_api.views.context import index as callers_index
from resubmit_api.views.context import parts, problems

__all__ = ["blueprint"]

blueprint = APIBlueprint("plans", __name__, url_prefix="/v1/plans", tag="Plans")

_LOCATION = {"Location": {"description": "Address of the plan", "schema": {"type": "string"}}}
_LATER = {"description": "Planning takes longer: poll `Location` until `plan` is set", "headers": _LOCATION}


@blueprint.post("")
@open_to(Role.OPERATOR)
@blueprint.input(ReplayRequest)
@blueprint.output(Job)
@blueprint.doc(
    operation_id="makePlan",
    responses={
        200: {"headers": _LOCATION},
        202: {**_LATER, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}},
        **problems(400, 413, 415, 422, 503),
    },
)
def make(json_data: ReplayRequest) -> tuple[Answer, int, dict[str, str]]:
    """Plan a resubmission.

    Freezes the current selection and reports what would be sent, and any problems; nothing is sent. `{"plan":
    id}` runs exactly that, even if more messages match by then. A plan that is not run is deleted after a
    day.
    """
    row = parts().jobs.plan(granted(callers_index(), json_data), who().name)
    waits = row["state"] == "PLANNED" and row["plan"] is None
    return row, 202 if waits else 200, {"Location": url_for("plans.get", id=row["id"])}


@blueprint.get("/<id>")
@open_to(Role.VIEWER)
@blueprint.output(Job)
@blueprint.doc(operation_id="getPlan", responses=problems(404, 503))
def get(id: str) -> Answer:
    """Get a plan.

    Its figures, once available, and its state: a plan and its resubmission have the same id.
    """
    row = parts().jobs.get(id)
    if not may_see(row):
        raise problem(404, "resubmission", "No resubmission has this id.")
    return row
