"""The pages of resubmissions: from a selection to a plan, and from its start to the end."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from resubmit_api.auth import denied, open_to
from resubmit_api.auth.grants import granted, may_control, may_see, who
from resubmit_api.auth.tokens import Role
from resubmit_api.cursors import job_cursor, read_job_cursor
from resubmit_api.errors import problem
from resubmit_api.jobs import Jobs
from resubmit_api.jobs.answers import Answer, estimated_seconds
from resubmit_api.pages.charts import Chart, draw
from resubmit_api.pages.common import Link, new_pages, wants_part
from resubmit_api.pages.request_form import checked, write_rate, write_request
from resubmit_api.pages.wording import pretty_json
from resubmit_api.schemas import JobsQuery, Rate, ReplayRequest
from resubmit_api.views.context import index, open_destinations, parts
from resubmit_api.views.resubmissions import approved
from transforms.errors import ConfigurationError
from transforms.jobs.listing import JobFilter
from transforms.jobs.rows import ENDED
from transforms.selection import Selection

__all__ = ["blueprint"]

_ON_A_PAGE = 50
_LONGEST_NOTE = 500
_STATES = ("QUEUED", "RUNNING", "PAUSED", "FAILED", "COMPLETED", "CANCELLED", "PLANNED")
_FILTERS = ("state", "requested_by", "destination", "created_from", "created_to")
_LIVE = ("QUEUED", "RUNNING", "PAUSED", "CANCELLING")
_FASTEST = 6.0
"""The end of the slider, as a power of ten; it means no limit."""

_LINKS = (
    Link(30, "resubmit", "Resubmit", "pages_jobs.resubmit"),
    Link(40, "jobs", "Jobs", "pages_jobs.jobs"),
)

blueprint: Blueprint = new_pages("pages_jobs", __name__, *_LINKS)


@blueprint.get("/resubmit")
@open_to(Role.OPERATOR)
def resubmit() -> str:
    """The form for a plan."""
    return _form(request.args, [])


@blueprint.post("/resubmit-request")
@open_to(Role.OPERATOR, form=True)
def written() -> str:
    """The current request of the form."""
    try:
        return render_template("request_part.html", body=write_request(request.form), typing=[])
    except ConfigurationError as error:
        return render_template("request_part.html", body=None, typing=error.problems)


@blueprint.post("/resubmit")
@open_to(Role.OPERATOR, form=True)
def plan() -> Response | tuple[str, int]:
    """Make the plan and redirect to it."""
    try:
        asked = checked(ReplayRequest, write_request(request.form))
        row = parts().jobs.plan(granted(index(), asked), who().name)
    except ConfigurationError as error:
        return _form(request.form, error.problems), 422
    return redirect(url_for(".job", id=row["id"]), 303)


@blueprint.get("/jobs")
@open_to(Role.VIEWER)
def jobs() -> str:
    """The latest jobs."""
    return render_template("jobs.html", states=_STATES, destinations=open_destinations(), **_page())


@blueprint.get("/jobs/table")
@open_to(Role.VIEWER)
def table() -> str:
    """The table of jobs, refreshed every few seconds."""
    return render_template("jobs_part.html", **_page())


@blueprint.get("/jobs/<id>")
@open_to(Role.VIEWER)
def job(id: str) -> str:
    """One job: its plan, progress and possible actions."""
    return render_template("job.html", **_facts(_row(id)))


@blueprint.get("/jobs/<id>/progress")
@open_to(Role.VIEWER)
def progress(id: str) -> Response:
    """Its progress; the whole job if its state differs from the one shown."""
    row = _row(id)
    if row["state"] == request.args.get("state") and (row["state"] != "PLANNED" or not row["plan"]):
        if row["state"] == "PLANNED":
            return make_response("", 204)
        return make_response(render_template("job_progress.html", **_facts(row)))
    response = make_response(render_template("job_part.html", **_facts(row)))
    response.headers["HX-Retarget"], response.headers["HX-Reswap"] = "#job", "outerHTML"
    return response


@blueprint.get("/jobs/<id>/estimate")
@open_to(Role.OPERATOR)
def estimate(id: str) -> str:
    """How long a plan takes at the typed rate limit, and the request that runs it at that rate."""
    row = _row(id)
    try:
        rate = checked(Rate, write_rate(request.args)).model_dump()
    except ConfigurationError as error:
        return render_template("estimate.html", problem=" ".join(error.problems))
    return render_template("estimate.html", row=row, **_estimate(row, rate))


@blueprint.post("/jobs/<id>/<any(approve, run, pause, resume, cancel, rate, retry, note):action>")
@open_to(Role.OPERATOR, form=True)
def act(id: str, action: str) -> Response | str:
    """Carry out the action of a button."""
    row = _controlled(id)
    changed = _ACTIONS[action](parts().jobs, row["id"], who().name)
    if wants_part():
        return render_template("job_part.html", **_facts(changed))
    return redirect(url_for(".job", id=changed["id"]), 303)


def _form(given: MultiDict[str, str], problems: list[str]) -> str:
    names = open_destinations()
    given = MultiDict({"destination": next(iter(names), "")} | given.to_dict())
    text, body = given.get("selection", ""), None
    with contextlib.suppress(ConfigurationError):  # shown as it was typed
        body = write_request(given) if text else None
        text = pretty_json(json.loads(text)) if body else text
    return render_template(
        "resubmit.html",
        given=given,
        text=text,
        body=body,
        selection=body and _countable(body["selection"]),
        problems=problems,
        destinations=names,
    )


def _countable(selection: Any) -> Any:
    try:
        return selection if Selection.model_validate(selection) else None
    except ValueError:
        return None


def _page() -> dict[str, Any]:
    given = {name: text for name in _FILTERS if (text := request.args.get(name, "").strip())}
    cursor, problems = request.args.get("cursor"), list[str]()
    try:
        wanted = checked(JobsQuery, {**given, "limit": _ON_A_PAGE}).filter()
    except ConfigurationError as error:
        wanted, problems = JobFilter(), error.problems
    before = None if cursor is None else read_job_cursor(cursor)
    rows, following = parts().jobs.page(wanted, _ON_A_PAGE, before, may_see)
    return {
        "jobs": rows,
        "next": following and job_cursor(following),
        "given": given,
        "cursor": cursor,
        "problems": problems,
    }


def _row(id: str) -> Answer:
    row = parts().jobs.get(id)
    if not may_see(row):
        raise problem(404, "resubmission", "No resubmission has that id.")
    return row


def _controlled(id: str) -> Answer:
    row = _row(id)
    if not may_control(row):
        raise denied("Your token may not change this resubmission.")
    return row


def _run(jobs: Jobs, id: str, by: str) -> Answer:
    return jobs.run_plan(id, by, rate=checked(Rate, write_rate(request.form)))


def _set_rate(jobs: Jobs, id: str, by: str) -> Answer:
    return jobs.set_rate(id, checked(Rate, write_rate(request.form)), by)


def _set_note(jobs: Jobs, id: str, by: str) -> Answer:
    return jobs.set_note(id, request.form.get("note", "").strip()[:_LONGEST_NOTE] or None, by)


def _approve(_: Jobs, id: str, __: str) -> Answer:
    return approved(id)


_ACTIONS: dict[str, Callable[[Jobs, str, str], Answer]] = {
    "approve": _approve,
    "run": _run,
    "rate": _set_rate,
    "note": _set_note,
    "pause": Jobs.pause,
    "resume": Jobs.resume,
    "cancel": Jobs.cancel,
    "retry": Jobs.retry,
}

_DONE = {
    "approve": "Approve",
    "run": "Run",
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel",
    "rate": "Set rate limit; null is no limit",
    "retry": "Retry failed messages",
}


def _facts(row: Answer) -> dict[str, Any]:
    fast = row["rate"]["messages_per_second"]
    return {
        "row": row,
        "possible": row["possible"],
        "may_control": may_control(row) and who().role >= Role.OPERATOR,
        "may_approve": "approve" in row["possible"] and _may_approve(row),
        "live": _LIVE,
        "ended": ENDED,
        "chart": _chart(row["plan"]),
        "took": _took(row),
        "slider": _FASTEST if fast is None else round(max(0.0, math.log10(fast)), 2),
        **_estimate(row, row["rate"]),
        "again": url_for(".resubmit", **_form_values(row)),
        "requests": _requests(row),
    }


def _may_approve(row: Answer) -> bool:
    needed = Role[parts().backends.settings.approver.upper()]
    return may_control(row) and who().role >= needed and who().name != row["approval"]["planned_by"]


def _chart(plan: Mapping[str, Any] | None) -> Chart | None:
    histogram = plan and plan["histogram"]
    if not histogram:
        return None
    start = datetime.fromisoformat(histogram["start"]).timestamp() * 1_000_000
    counts = {number: count for number, count in enumerate(histogram["messages"]) if count}
    return draw(counts, round(start), round(histogram["width_seconds"] * 1_000_000))


def _estimate(row: Answer, rate: Mapping[str, float | None]) -> dict[str, Any]:
    return {"seconds": row["plan"] and estimated_seconds(row["plan"], rate), "rate": rate}


def _took(row: Answer) -> float | None:
    times = (row["started"], row["finished"])
    ends = [datetime.fromisoformat(time.replace("Z", "+00:00")) for time in times if time]
    if len(ends) < 2:
        return None
    # The start of an inline job is recorded with its plan, which is after it was sent.
    return float(max((ends[1] - ends[0]) / timedelta(seconds=1), (row["report"] or {}).get("seconds", 0.0)))


def _form_values(row: Answer) -> dict[str, Any]:
    """The query parameters that fill in the form as it was."""
    given = {name: value for name, value in row["options"].items() if value not in (None, "", False)}
    place = {name: row[name] for name in ("destination", "topic")}
    return {**given, **place, "selection": pretty_json(row["selection"])}


def _requests(row: Answer) -> list[tuple[str, str, str, Any]]:
    """Name, method, path and body of the page's requests."""
    address = url_for("resubmissions.get", id=row["id"])
    looked = url_for("plans.get", id=row["id"]) if row["state"] == "PLANNED" else address
    made: dict[str, tuple[str, str, str, Any]] = {
        "run": (_DONE["run"], "POST", url_for("resubmissions.create"), {"plan": row["id"]}),
        "rate": (_DONE["rate"], "PATCH", address, {"rate": row["rate"]}),
    }
    return [
        ("Show", "GET", looked, None),
        *(made.get(action, (_DONE[action], "POST", f"{address}/{action}", {})) for action in row["possible"]),
    ]
