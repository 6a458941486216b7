"""The audit trail: who sent what where, who logged in, who was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiflask import APIBlueprint

from resubmit_api.auth import open_to
from resubmit_api.auth.grants import who
from resubmit_api.auth.tokens import Role
from resubmit_api.cursors import job_cursor, read_job_cursor
from resubmit_api.errors import needs
from resubmit_api.schemas.audit import AuditPage, AuditQuery
from resubmit_api.views.context import parts, problems

__all__ = ["blueprint"]

blueprint = APIBlueprint("audit", __name__, url_prefix="/v1", tag="Operations")


@blueprint.get("/audit")
@open_to(Role.ADMIN)
@blueprint.input(AuditQuery, location="query")
@blueprint.output(AuditPage)
@blueprint.doc(operation_id="listAudit", responses=problems(400, 422, 503))
def index(query_data: AuditQuery) -> dict[str, Any]:
    """Read the audit trail.

    The latest records first, a page at a time. Nothing changes or deletes one.
    """
    before = None if query_data.cursor is None else read_job_cursor(query_data.cursor)
    with needs("The index"):
        records = parts().backends.index.list_audit(query_data.limit, before)
    more = len(records) == query_data.limit
    return {
        "records": [record for record in records if _is_open(record)],
        "next": job_cursor(records[-1]["id"]) if more else None,
    }


def _is_open(record: Mapping[str, Any]) -> bool:
    return all(map(who().may_read, record.get("sources") or ()))
