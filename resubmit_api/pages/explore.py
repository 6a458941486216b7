"""The pages that find messages: a form that writes a selection, its results, and one message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
from apiflask.exceptions import HTTPError
from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.errors import needs
from resubmit_api.messages import read_message
from resubmit_api.pages.charts import Chart, draw, grid
from resubmit_api.pages.common import Link, new_pages
from resubmit_api.pages.selection_form import (
    FIELDS,
    OPERATORS,
    RANGES,
    Condition,
    fill_in,
    selection_json,
    write_selection,
)
from resubmit_api.pages.wording import pretty_json
from resubmit_api.rendering import message_to_json, search_page
from resubmit_api.views.context import index, parts
from transforms.errors import ConfigurationError
from transforms.payloads import view
from transforms.selection import Selection, parse_selection
from transforms.times import moment

__all__ = ["blueprint"]

_ON_A_PAGE = 50
_AT_FIRST = '{"published_from": "-1d"}'
_AROUND_US = 30_000_000
_SEARCH_ONLY = {"limit": None, "sample": None}

_FORM = {"operators": OPERATORS, "ranges": RANGES, "fields": FIELDS, "empty_line": Condition()}
"""Constants for the form's template."""

_LINK = Link(20, "explore", "Explore", "pages_explore.explore")

blueprint: Blueprint = new_pages("pages_explore", __name__, _LINK)


@dataclass(frozen=True)
class _Typed:
    """A selection as typed, as parsed, or with its problems."""

    text: str
    typed: dict[str, Any]
    selection: Selection | None
    problems: list[str]


def _parse(text: str) -> _Typed:
    """Parse the typed text; it is reformatted if it is a selection."""
    try:
        selection = parse_selection(text)
    except ConfigurationError as error:
        return _Typed(text, {}, None, [problem.removeprefix("selection: ") for problem in error.problems])
    typed = json.loads(text)
    return _Typed(pretty_json(typed), typed, selection, [])


@blueprint.get("/explore")
@open_to(Role.VIEWER)
def explore() -> Response | tuple[str, int]:
    """The form, its selection and the first messages of it."""
    if "selection" not in request.args and request.args:
        return redirect(url_for(".explore", selection=_written()), 303)
    given = _parse(request.args.get("selection", _AT_FIRST))
    values: dict[str, Any] = {
        "problems": given.problems,
        "text": given.text,
        "selection": None,
        "body": None,
    }
    status = 422 if given.problems else 200
    if given.selection is not None:
        values["body"] = _search(given.selection)
        try:
            values |= _found(given.selection, request.args.get("cursor"))
        except HTTPError as error:  # the form stays, so that the search can be narrowed
            values["problems"], status = [error.detail], error.status_code
    with needs("The index"):
        sources = index().sources()
    filled = fill_in(given.typed)
    page = render_template(
        "explore.html",
        form=filled,
        sources=sources,
        action=url_for(".explore"),
        verb="Search",
        **_FORM,
        **values,
    )
    return page, status


@blueprint.post("/explore/selection")
@open_to(Role.VIEWER, form=True)
def written() -> str:
    """The current selection of the form."""
    try:
        given = _parse(_written())
    except ConfigurationError as error:
        given = _Typed("", {}, None, error.problems)
    body = _search(given.selection) if given.selection else None
    return render_template("selection_part.html", text=given.text, problems=given.problems, body=body)


@blueprint.get("/explore/condition")
@open_to(Role.VIEWER)
def condition() -> str:
    """Another line of the form."""
    return render_template("condition.html", line=Condition(), **_FORM)


@blueprint.get("/explore/more")
@open_to(Role.VIEWER)
def more() -> str:
    """The next rows of the results."""
    found = _found(_requested(), request.args.get("cursor"))
    return render_template("explore_rows.html", **found)


@blueprint.get("/explore/figures")
@open_to(Role.VIEWER)
def figures() -> str:
    """The number of messages in the selection, and their publish times."""
    selection = _requested()
    with needs("The index"):
        found = index().summarize(selection)
        chart = _chart(selection, [t for part in found for t in (part.oldest, part.newest) if t is not None])
    typed = selection_json(selection)
    return render_template(
        "figures_part.html",
        found=found,
        chart=chart,
        selection=typed,
        offer="offer" in request.args,
    )


@blueprint.get("/messages/<id:id>")
@open_to(Role.VIEWER)
def message(id: str) -> str:
    """One message: its entry, headers and payload."""
    found = read_message(index(), parts().backends.lakes, id)
    shown, data = message_to_json(found), found.message["data"][0].as_py()
    source, published = found.entry["source"][0].as_py(), found.entry["publish_time"].cast(pa.int64())
    return render_template(
        "message.html",
        message=shown,
        selection={"ids": [id]},
        around=_around(source, published[0].as_py()),
        view=None if data is None else view(data, request.args.get("view")),
    )


def _written() -> str:
    return pretty_json(write_selection(request.values))


def _requested() -> Selection:
    return parse_selection(request.args.get("selection", _AT_FIRST))


def _found(selection: Selection, cursor: str | None) -> dict[str, Any]:
    searched = selection.model_copy(update=_SEARCH_ONLY)
    typed = selection_json(selection)
    untimed: dict[str, Any] = {name: typed[name] for name in ("sources", "ids", "where") if name in typed}
    return {
        "selection": typed,
        "page": search_page(index(), searched, _ON_A_PAGE, cursor, datetime.now(timezone.utc)),
        "without_times": untimed or {"all": True},
    }


def _search(selection: Selection) -> dict[str, Any]:
    """Search with absolute times, because the cursor of a page is bound to them."""
    typed = selection_json(selection)
    narrowed = {name: value for name, value in typed.items() if name not in _SEARCH_ONLY}
    return {"selection": narrowed or {"all": True}, "limit": 100}


def _chart(selection: Selection, times: list[Any]) -> Chart | None:
    if not times:
        return None
    start, width = grid(min(times), max(times))
    try:
        return draw(index().histogram(selection, start, width), start, width)
    except HTTPError:  # too slow or too busy: the figures are worth showing without it
        return None


def _around(source: str, microseconds: int | None) -> dict[str, Any]:
    if microseconds is None:
        return {"sources": [source]}
    first, end = moment(microseconds - _AROUND_US), moment(microseconds + _AROUND_US)
    bounds = {"published_from": first.isoformat(), "published_to": end.isoformat()}
    return {"sources": [source], **(bounds if first < end else {})}
