"""The endpoints of the audit trail: who sent what where, who logged in, who was refused."""

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

__all__ = ["audit_page", "blueprint"]

_READ, _MOST_READS = 1000, 10
"""Records read at a time, and number of reads, to find those of one job."""

blueprint = APIBlueprint("audit", __name__, url_prefix="/v1", tag="Operations")


@blueprint.get("/audit")
@open_to(Role.ADMIN)
@blueprint.input(AuditQuery, location="query")
@blueprint.output(AuditPage)
@blueprint.doc(operation_id="listAudit", responses=problems(400, 422, 503))
def index(query_data: AuditQuery) -> dict[str, Any]:
    """Read the audit trail.

    Latest records first, page by page; of one resubmission if `job` is given. Its pages may be short before
    the last one. Records are never changed or deleted.
    """
    return audit_page(query_data.limit, query_data.cursor, query_data.job)


def audit_page(limit: int, cursor: str | None, job: str | None) -> dict[str, Any]:
    """A page (:class:`resubmit_api.schemas.audit.AuditPage`); 400 for a foreign cursor."""
    before = None if cursor is None else read_job_cursor(cursor)
    found: list[dict[str, Any]] = []
    for _ in range(1 if job is None else _MOST_READS):
        records, before = _read(limit if job is None else _READ, before, job)
        found += records
        if before is None or len(found) >= limit:
            break
    if len(found) > limit:
        found, before = found[:limit], found[limit - 1]["id"]
    return {
        "records": [record for record in found if _is_open(record)],
        "next": None if before is None else job_cursor(before),
    }


def _read(limit: int, before: str | None, job: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """The next records, of one job if given, and the position after them."""
    with needs("The index"):
        records = parts().backends.index.list_audit(limit, before)
    # Ids sort by time, and a job has no records from before its creation.
    over = len(records) < limit or (job is not None and records[-1]["id"] < job)
    wanted = [record for record in records if job is None or record.get("job") == job]
    return wanted, None if over else records[-1]["id"]


def _is_open(record: Mapping[str, Any]) -> bool:
    return all(map(who().may_read, record.get("sources") or ()))
