"""For those who run the service: health and metrics."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.errors import RETRY_AFTER, AwayError
from resubmit_api.schemas import Health
from resubmit_api.views.context import parts, problems

__all__ = ["blueprint"]

_EXPOSITION: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
}

blueprint = APIBlueprint("operations", __name__, tag="Operations")


@blueprint.get("/healthz")
@open_to(Role.ANYONE)
@blueprint.output(Health)
@blueprint.doc(operation_id="health")
def healthz() -> dict[str, Any]:
    """Check that the process answers.

    Does not check other servers: a restart would not bring them back.
    """
    return {"status": "ok", "checks": {}}


@blueprint.get("/readyz")
@open_to(Role.ANYONE)
@blueprint.output(Health)
@blueprint.doc(operation_id="ready", responses=problems(503))
def readyz() -> dict[str, Any]:
    """Check that the service can work.

    Checks the index. Destinations are not checked: one that does not answer does not affect the others.
    """
    if not parts().readiness.answers():
        raise AwayError(f"The index does not answer; try again in {RETRY_AFTER} seconds.")
    return {"status": "ok", "checks": {"index": "ok"}}


@blueprint.get("/metrics")
@open_to(Role.VIEWER)
@blueprint.doc(
    operation_id="metrics",
    responses=_EXPOSITION,
)
def metrics() -> Response:
    """Metrics for Prometheus."""
    return Response(parts().metrics.text(), content_type=CONTENT_TYPE_LATEST)
