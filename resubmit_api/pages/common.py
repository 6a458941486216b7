"""What all pages share: blueprints, navigation, errors in words and what templates may call."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apiflask.exceptions import HTTPError
from flask import Blueprint, Response, current_app, make_response, render_template, request, url_for
from flask.blueprints import BlueprintSetupState

from resubmit_api.auth import caller, role_of
from resubmit_api.auth.tokens import LOCAL, Role
from resubmit_api.errors import RETRY_AFTER, AwayError, UnknownOutcomeError
from resubmit_api.pages.charts import HEIGHT, WIDTH, Bar
from resubmit_api.pages.wording import FILTERS, curl, pretty_json
from transforms.errors import ConfigurationError, TransientError
from transforms.jobs.states import WrongStateError
from transforms.replay.plans import new_job_id

__all__ = ["Link", "new_pages", "wants_part"]

_LINKS = "persistor_links"


@dataclass(frozen=True)
class Link:
    """An entry of the navigation, shown to those who may open its page.

    Attributes:
        place: the entries are sorted by it.
        name: the page's template sets ``here`` to it.
        text: what is shown.
        endpoint: of the page's view.
    """

    place: int
    name: str
    text: str
    endpoint: str


def new_pages(name: str, import_name: str, *links: Link) -> Blueprint:
    """A blueprint of pages: left out of the API's document; its errors are pages too.

    Args:
        name: of the blueprint.
        import_name: of its module, beside which ``templates`` holds the templates.
        links: its entries of the navigation.
    """
    blueprint = Blueprint(name, import_name, template_folder="templates")
    blueprint.record_once(_prepare)
    blueprint.record_once(lambda state: state.app.extensions.setdefault(_LINKS, []).extend(links))
    blueprint.register_error_handler(HTTPError, _answered)
    blueprint.register_error_handler(ConfigurationError, _refused)
    blueprint.register_error_handler(TransientError, _away)
    blueprint.register_error_handler(UnknownOutcomeError, _unknown)
    blueprint.register_error_handler(WrongStateError, _too_late)
    return blueprint


def wants_part() -> bool:
    """Whether our script requests a part of a page."""
    return request.headers.get("HX-Request") == "true"


def _prepare(state: BlueprintSetupState) -> None:
    environment = state.app.jinja_env
    if "curl" not in environment.globals:
        environment.filters.update(FILTERS)
        environment.globals["new_key"] = new_job_id
        shapes = {"chart_width": WIDTH, "chart_height": HEIGHT, "narrowed": _narrowed}
        environment.globals.update(asset=_asset, curl=_curl, may_send=_may_send, is_admin=_is_admin, **shapes)
        environment.globals.update(navigation=_navigation)
        environment.trim_blocks = environment.lstrip_blocks = True


def _asset(name: str) -> str:
    """The address of a file that browsers may cache: other content has another address."""
    return url_for("static", filename=name, v=_digest(str(current_app.static_folder), name))


@functools.cache
def _digest(folder: str, name: str) -> str:
    return hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest()[:12]


def _navigation() -> list[Link]:
    """The entries for whoever asks."""
    links: list[Link] = current_app.extensions[_LINKS]
    open_ones = [link for link in links if _has(role_of(current_app, link.endpoint) or Role.ADMIN)]
    return sorted(open_ones, key=lambda link: link.place)


def _may_send() -> bool:
    return _has(Role.OPERATOR)


def _is_admin() -> bool:
    return _has(Role.ADMIN)


def _has(role: Role) -> bool:
    found = caller()
    return found is not None and found.role >= role


def _curl(method: str, path: str, body: Any = None, save: bool = False, id: str | None = None) -> str:
    root = request.url_root.rstrip("/")
    return curl(root, method, path, body, token=caller() is not LOCAL, save=save, id=id)


def _narrowed(selection: Mapping[str, Any], bar: Bar) -> str:
    """The address that lists the messages of one bar."""
    rest = {name: value for name, value in selection.items() if name not in {"all", "limit", "sample"}}
    rest |= {"published_from": bar.start.isoformat(), "published_to": bar.end.isoformat()}
    return url_for("pages_explore.explore", selection=pretty_json(rest))


def _answered(error: HTTPError) -> Response:
    causes = [cause["detail"] for cause in error.extra_data.get("errors", ())]
    detail = error.detail if isinstance(error.detail, str) else ""
    response = _page_of(error.status_code, error.message or "It failed", causes or [detail])
    response.headers.extend(error.headers)
    return response


def _refused(error: ConfigurationError) -> Response:
    return _page_of(422, "This request cannot be carried out", error.problems)


def _unknown(error: UnknownOutcomeError) -> Response:
    response = _page_of(503, "It may be on its way", [str(error)])
    response.headers["Location"] = url_for("pages_jobs.job", id=error.row["id"])
    return response


def _away(error: TransientError) -> Response:
    text = str(error) if isinstance(error, AwayError) else "A required server does not answer."
    response = _page_of(503, "A server does not answer", [text])
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _too_late(error: WrongStateError) -> Response:
    return _page_of(409, "Its state has changed", [str(error)])


def _page_of(status: int, title: str, causes: list[str]) -> Response:
    template = "error_part.html" if wants_part() else "error.html"
    response = make_response(render_template(template, title=title, causes=causes, status=status), status)
    if request.method == "POST":  # the page keeps what was requested
        response.headers["HX-Retarget"], response.headers["HX-Reswap"] = "#notice", "innerHTML"
    return response
