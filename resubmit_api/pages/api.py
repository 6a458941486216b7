"""The REST API's document in the browser."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, render_template

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.pages.common import Link, new_pages

__all__ = ["blueprint"]

_SELECTION = {"sources": ["orders"], "published_from": "-1d"}
_REPLAY = {"destination": "main", "topic": "orders-replay", "selection": _SELECTION}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "searchMessages": {"selection": {"sources": ["orders"]}, "limit": 100},
    "makePlan": _REPLAY,
    "resubmit": _REPLAY,
    "setRate": {"rate": {"messages_per_second": 500}},
    **{action: {} for action in ("approve", "pause", "resume", "cancel", "retry")},
}
"""Bodies by operation."""

_LINK = Link(70, "api", "API", "pages_api.docs")

blueprint: Blueprint = new_pages("pages_api", __name__, _LINK)


@blueprint.get("/docs")
@open_to(Role.ANYONE)
def docs() -> str:
    """The page of the API, made from its document."""
    return render_template(
        "api.html",
        spec=current_app.spec,  # type: ignore[attr-defined]
        examples=_EXAMPLES,
    )
