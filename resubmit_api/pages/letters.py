"""The page of dead letters: lists them by cause and sends them back."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from resubmit_api.auth import open_to
from resubmit_api.auth.grants import granted, who
from resubmit_api.auth.tokens import Role
from resubmit_api.overview.causes import selection_for
from resubmit_api.pages.common import Link, new_pages
from resubmit_api.pages.request_form import checked, write_request
from resubmit_api.schemas import ReplayRequest
from resubmit_api.views.context import digest, index, parts
from resubmit_api.views.sources import callers_causes

__all__ = ["blueprint"]

_BACK = {"topic": "{origin}", "options": {"restore": True}}
_WORDS = {
    "permanent": "can never be archived",
    "gave_up": "given up while a server did not answer",
    "lost": "could not be read at the broker, and was skipped",
}

_LINK = Link(50, "letters", "Dead letters", "pages_letters.letters")

blueprint: Blueprint = new_pages("pages_letters", __name__, _LINK)


@blueprint.get("/dead-letters")
@open_to(Role.VIEWER)
def letters() -> str:
    """Dead letters by cause."""
    names = [name for name in parts().backends.publishers.names() if who().may_send(name, "{origin}")]
    return render_template(
        "letters.html",
        causes=callers_causes(),
        selection_for=selection_for,
        words=_WORDS,
        back={"destination": next(iter(names), ""), **_BACK},
        destinations=names,
    )


@blueprint.post("/dead-letters/send-back")
@open_to(Role.OPERATOR, form=True)
def send_back() -> Response:
    """Send dead letters unchanged to the topics they came from, and redirect to the job."""
    body = write_request(request.form) | _BACK
    asked = granted(index(), checked(ReplayRequest, body))
    # The page gave the form a key: sent twice, it sends the messages once.
    row = parts().jobs.submit(
        asked, who().name, key=request.form.get("key", "")[:200] or None, body=digest(body)
    )
    return redirect(url_for("pages_jobs.job", id=row["id"]), 303)
