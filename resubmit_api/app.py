"""Assembles the HTTP service from its settings."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from apiflask import APIFlask
from flask import Blueprint, Request, Response, current_app, g, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.routing import BaseConverter

from resubmit_api import errors
from resubmit_api.auth import Guard
from resubmit_api.auth.refusals import Refusals
from resubmit_api.auth.tokens import Tokens
from resubmit_api.backends import Backends
from resubmit_api.compatible.views import COLLECTIONS
from resubmit_api.compatible.views import blueprint as compatible_views
from resubmit_api.jobs import Jobs
from resubmit_api.launchers import launcher
from resubmit_api.metrics import Metrics
from resubmit_api.openapi import describe
from resubmit_api.overview import Overview
from resubmit_api.readiness import Readiness
from resubmit_api.settings import ApiSettings
from resubmit_api.views.context import EXTENSION, Parts
from transforms.discovery import load, names
from transforms.errors import ConfigurationError
from transforms.metrics.host import watch
from transforms.secrets import resolve

__all__ = ["MAX_BODY", "close_app", "create_app"]

MAX_BODY = 1 << 20
_MAX_NAME_SHOWN = 50
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PORT = re.compile(r":[0-9]*\Z")
_log = logging.getLogger(__name__)

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    # Our pages need only our own files; foreign content must not run.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


def create_app(settings: ApiSettings, *, trusted_hosts: Sequence[str] | None = None) -> APIFlask:
    """Create the WSGI application: open the index and the lakes and take over unfinished jobs.

    Release it with :func:`close_app`.

    Args:
        settings: of the command; where it listens is the server's affair.
        trusted_hosts: accepted host names (header Host, without a port); None accepts any.

    Raises:
        ConfigurationError: all problems of the settings at once.
    """
    _check_approval(settings)
    guard = _guard(settings)
    directory = settings.jobs_directory or _default_directory()
    starter = launcher(settings.launcher).open_launcher(directory, settings.launcher_config)
    metrics, destinations = Metrics(), settings.destinations
    backends = Backends(settings)
    watch(
        "api",
        [settings.index, *settings.lakes, *(to.url for to in destinations.values())],
        [settings.lake_config, *(to.config for to in destinations.values())],
        metrics.registry,
    )
    jobs = Jobs(backends, starter, settings.inline_limit, metrics)
    app = _new_app()
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY
    if trusted_hosts is not None:
        app.before_request(_only_for(frozenset(trusted_hosts)))
    app.before_request(_begin)
    key = None if settings.session_key is None else resolve(settings.session_key, "`session_key`")
    refusals = Refusals(lambda: backends.index, metrics.refusal_dropped)
    guard.attach(app, key, lambda: backends.index, refusals)
    overview = Overview(lambda: backends.index, settings.metrics)
    app.extensions[EXTENSION] = Parts(
        backends, jobs, metrics, guard, overview, refusals, Readiness(lambda: backends.index)
    )
    for blueprint in _blueprints():
        app.register_blueprint(blueprint)
    if settings.compatible:
        app.config[COLLECTIONS] = dict(settings.compatible)
        app.register_blueprint(compatible_views)
    app.after_request(_finish)
    jobs.take_up()
    return app


def _blueprints() -> Iterator[Blueprint]:
    """Those of the REST views and of the pages, each found in its own module."""
    for package in ("resubmit_api.views", "resubmit_api.pages"):
        found = (vars(load(package, name)).get("blueprint") for name in names(package))
        yield from (blueprint for blueprint in found if isinstance(blueprint, Blueprint))


def close_app(app: APIFlask) -> None:
    """Finish the resubmissions in progress and disconnect."""
    parts: Parts = app.extensions[EXTENSION]
    parts.jobs.close()
    parts.refusals.close()
    parts.backends.close()


class _Json(DefaultJSONProvider):
    """JSON that rejects duplicate names in an object."""

    sort_keys = False
    ensure_ascii = True

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            hooks = {"object_pairs_hook": _unique_names, "parse_constant": _refuse_constant}
            return super().loads(s, **hooks, **kwargs)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


class _Id(BaseConverter):
    """A message id, which may contain any character, including slashes and line breaks."""

    regex = r"[\s\S]+?"
    part_isolating = False


class _Request(Request):
    """Explains what is wrong with a body that is not JSON."""

    def on_json_loading_failed(self, e: ValueError | None) -> Any:
        if e is None:  # another content type, which has its own response
            return super().on_json_loading_failed(e)
        raise errors.problem(400, "json", f"The body is not JSON: {e}.")


def _new_app() -> APIFlask:
    app = APIFlask(
        "resubmit_api",
        title="Persistor",
        version="1",
        docs_path=None,
        template_folder="pages/templates",
        static_folder="static",
    )
    app.json = _Json(app)
    app.request_class = _Request
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 31_536_000  # other content has another address
    app.url_map.merge_slashes = False
    app.url_map.converters["id"] = _Id
    errors.register(app)
    describe(app)
    return app


def _check_approval(settings: ApiSettings) -> None:
    problems = [
        f"`approval: {name}`: no `destination` has this name."
        for name in settings.approval
        if name not in settings.destinations
    ]
    if settings.approval and settings.tokens is None:
        problems.append("`approval` needs `tokens`: without them everybody is the same person.")
    if problems:
        raise ConfigurationError(problems)


def _guard(settings: ApiSettings) -> Guard:
    tokens = None if settings.tokens is None else Tokens(settings.tokens)
    return Guard(tokens, settings.requests_per_minute)


def _default_directory() -> Path:
    return Path(tempfile.gettempdir()) / f"persistor-jobs-{os.getuid()}"


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice[:_MAX_NAME_SHOWN]!r} appears twice in one object")
    return names


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _only_for(hosts: frozenset[str]) -> Callable[[], None]:
    # Flask's own TRUSTED_HOSTS takes no IPv6 address.
    def check() -> None:
        if _PORT.sub("", request.headers.get("Host", "")).lower() not in hosts:
            raise errors.problem(400, "host", f"Use one of the host names {', '.join(sorted(hosts))}.")

    return check


def _begin() -> None:
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    now = time.perf_counter()
    seconds = now - g.get("started", now)  # a request refused for a wrong host name has not begun
    route = request.url_rule.rule if request.url_rule else "(none)"
    metrics = current_app.extensions[EXTENSION].metrics
    metrics.answered(_method(), route, response.status_code, seconds)
    # The path is quoted, so that no caller can write lines into the log.
    _log.info(
        "%s %s %s %d %.1f ms",
        request.remote_addr,
        _method(),
        quote(request.path)[:500],
        response.status_code,
        seconds * 1000,
    )
    return response


def _method() -> str:
    # Callers may invent methods, which must not become metric labels.
    return request.method if request.method in _METHODS else "(other)"
