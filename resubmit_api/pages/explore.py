"""Finding messages in the browser: a form that writes a selection, its results, and one message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.errors import needs
from resubmit_api.messages import read_message
from resubmit_api.pages.charts import Chart, draw, grid
from resubmit_api.pages.common import Link, new_pages
from resubmit_api.pages.payloads import view
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
from transforms.selection import Selection, parse_selection
from transforms.times import moment

__all__ = ["blueprint"]

_ON_A_PAGE = 50
_AT_FIRST = '{"published_from": "-1d"}'
_AROUND_US = 30_000_000
_SEARCH_ONLY = {"limit": None, "sample": None}

_FORM = {"operators": OPERATORS, "ranges": RANGES, "fields": FIELDS, "empty_line": Condition()}
"""What the form's template needs besides its content."""

_LINK = Link(20, "explore", "Explore", "pages_explore.explore")

blueprint: Blueprint = new_pages("pages_explore", __name__, _LINK)


@dataclass(frozen=True)
class _Given:
    """A selection as it was typed, what it means now, or what is wrong with it."""

    text: str
    typed: dict[str, Any]
    selection: Selection | None
    problems: list[str]


def _given(text: str) -> _Given:
    """Read what somebody typed; the text is laid out anew where it is a selection."""
    try:
        selection = parse_selection(text)
    except ConfigurationError as error:
        return _Given(text, {}, None, [problem.removeprefix("selection: ") for problem in error.problems])
    typed = json.loads(text)
    return _Given(pretty_json(typed), typed, selection, [])


@blueprint.get("/explore")
@open_to(Role.VIEWER)
def explore() -> Response | tuple[str, int]:
    """The form, the selection that it means and the first messages of it."""
    if "selection" not in request.args and request.args:
        return redirect(url_for(".explore", selection=_written()), 303)
    given = _given(request.args.get("selection", _AT_FIRST))
    values: dict[str, Any] = {"problems": given.problems, "text": given.text, "selection": None, "body": None}
    if given.selection is not None:
        values |= _found(given.selection, request.args.get("cursor")) | {"body": _search(given.selection)}
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
    return page, 422 if given.problems else 200


@blueprint.post("/explore/selection")
@open_to(Role.VIEWER, form=True)
def written() -> str:
    """The selection that the form means at the moment."""
    try:
        given = _given(_written())
    except ConfigurationError as error:
        given = _Given("", {}, None, error.problems)
    body = _search(given.selection) if given.selection else None
    return render_template("selection_part.html", text=given.text, problems=given.problems, body=body)


@blueprint.get("/explore/condition")
@open_to(Role.VIEWER)
def condition() -> str:
    """One more line of the form."""
    return render_template("condition.html", line=Condition(), **_FORM)


@blueprint.get("/explore/more")
@open_to(Role.VIEWER)
def more() -> str:
    """The next rows of the results."""
    found = _found(_asked(), request.args.get("cursor"))
    return render_template("explore_rows.html", **found)


@blueprint.get("/explore/figures")
@open_to(Role.VIEWER)
def figures() -> str:
    """How many messages the selection has, and when they were published."""
    selection = _asked()
    with needs("The index"):
        found = index().summarize(selection)
        chart = _chart(selection, [t for part in found for t in (part.oldest, part.newest) if t is not None])
    told = selection_json(selection)
    return render_template(
        "figures_part.html",
        found=found,
        chart=chart,
        selection=told,
        offer="offer" in request.args,
    )


@blueprint.get("/messages/<id:id>")
@open_to(Role.VIEWER)
def message(id: str) -> str:
    """One message: what is known of it, its headers and its payload."""
    found = read_message(index(), parts().backends.lakes, id)
    told, data = message_to_json(found), found.message["data"][0].as_py()
    source, published = found.entry["source"][0].as_py(), found.entry["publish_time"].cast(pa.int64())
    return render_template(
        "message.html",
        message=told,
        selection={"ids": [id]},
        around=_around(source, published[0].as_py()),
        view=None if data is None else view(data, request.args.get("view")),
    )


def _written() -> str:
    return pretty_json(write_selection(request.values))


def _asked() -> Selection:
    return parse_selection(request.args.get("selection", _AT_FIRST))


def _found(selection: Selection, cursor: str | None) -> dict[str, Any]:
    searched = selection.model_copy(update=_SEARCH_ONLY)
    told = selection_json(selection)
    untimed: dict[str, Any] = {name: told[name] for name in ("sources", "ids", "where") if name in told}
    return {
        "selection": told,
        "page": search_page(index(), searched, _ON_A_PAGE, cursor),
        "without_times": untimed or {"all": True},
    }


def _search(selection: Selection) -> dict[str, Any]:
    """With the times that are meant, for the cursor of a page belongs to them."""
    told = selection_json(selection)
    narrowed = {name: value for name, value in told.items() if name not in _SEARCH_ONLY}
    return {"selection": narrowed or {"all": True}, "limit": 100}


def _chart(selection: Selection, times: list[Any]) -> Chart | None:
    if not times:
        return None
    start, width = grid(min(times), max(times))
    return draw(index().histogram(selection, start, width), start, width)


def _around(source: str, microseconds: int | None) -> dict[str, Any]:
    if microseconds is None:
        return {"sources": [source]}
    first, end = moment(microseconds - _AROUND_US), moment(microseconds + _AROUND_US)
    bounds = {"published_from": first.isoformat(), "published_to": end.isoformat()}
    return {"sources": [source], **(bounds if first < end else {})}
