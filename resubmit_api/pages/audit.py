"""The page of the audit trail."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request, url_for

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.pages.common import Link, new_pages
from resubmit_api.views.audit import audit_page

__all__ = ["blueprint"]

_ON_A_PAGE = 100
_ACTIONS = {
    "login": "logged in",
    "logout": "logged out",
    "refused": "was refused: no valid token",
    "denied": "was denied",
    "plan": "made a plan",
    "run": "ran the plan",
    "resubmit": "resubmitted",
    "pause": "paused it",
    "resume": "resumed it",
    "cancel": "cancelled it",
    "rate": "set its rate limit",
    "retry": "retried the failed messages",
}

_LINK = Link(60, "audit", "Audit", "pages_audit.audit")

blueprint: Blueprint = new_pages("pages_audit", __name__, _LINK)


@blueprint.get("/audit")
@open_to(Role.ADMIN)
def audit() -> str:
    """Who did what, latest first; of one job if given."""
    job, cursor = request.args.get("job", "").strip()[:100] or None, request.args.get("cursor")
    page: dict[str, Any] = audit_page(_ON_A_PAGE, cursor, job)
    asked = url_for("audit.index", job=job, limit=_ON_A_PAGE, cursor=cursor)
    return render_template("audit.html", job=job, asked=asked, words=_ACTIONS, **page)
