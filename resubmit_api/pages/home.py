"""The first page: an overview of every source."""

from __future__ import annotations

import json

from flask import Blueprint, Response, render_template, request

from resubmit_api.auth import open_to
from resubmit_api.auth.grants import may_see
from resubmit_api.auth.tokens import Role
from resubmit_api.errors import PROBLEM_TYPE, needs
from resubmit_api.pages.common import Link, new_pages
from resubmit_api.views.context import parts
from resubmit_api.views.sources import callers_silent, callers_sources
from transforms.jobs.listing import JobFilter

__all__ = ["blueprint"]

_LATEST_JOBS = 5

_LINK = Link(10, "overview", "Overview", "pages.overview")

blueprint: Blueprint = new_pages("pages", __name__, _LINK)


@blueprint.after_app_request
def for_people(response: Response) -> Response:
    """Show a page to browsers for an unknown address."""
    kinds = [PROBLEM_TYPE, "text/html"]
    asked = request.accept_mimetypes.best_match(kinds)
    if request.routing_exception is None or response.mimetype != PROBLEM_TYPE or asked != "text/html":
        return response
    problem = json.loads(response.get_data())
    page = render_template(
        "error.html", title=problem["title"], causes=[problem["detail"]], status=problem["status"]
    )
    response.set_data(page)
    response.mimetype = "text/html"
    return response


@blueprint.get("/")
@open_to(Role.VIEWER)
def overview() -> str:
    """The page; its figures load separately, because a large index takes a moment."""
    return render_template("overview.html")


@blueprint.get("/overview")
@open_to(Role.VIEWER)
def figures() -> str:
    """Its figures, refreshed every few seconds."""
    known, sources = parts().overview, callers_sources()
    with needs("The index"):
        jobs, _ = parts().jobs.page(JobFilter(), _LATEST_JOBS, may_see=may_see)
    if sources is None:
        return render_template("counting.html")
    return render_template(
        "overview_part.html",
        sources=sources,
        jobs=jobs,
        silent=callers_silent(),
        has_metrics=bool(known.metrics),
    )
