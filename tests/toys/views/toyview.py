"""A view of the REST API."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role

__all__ = ["blueprint"]

blueprint = APIBlueprint("toyview", __name__, url_prefix="/v1/toys", tag="Toys")


@blueprint.get("")
@open_to(Role.VIEWER)
@blueprint.doc(operation_id="listToys")
def toys() -> dict[str, Any]:
    """List the toys."""
    return {"toys": ["ball"]}
