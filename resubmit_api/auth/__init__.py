"""Who may do what: one place decides, before any view runs.

Each view declares the role it needs with :func:`open_to`; a view without one is for administrators.
:mod:`resubmit_api.auth.grants` decides which sources and destinations a caller may use.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Flask, Request, abort, current_app, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from werkzeug.wrappers import Response

from resubmit_api.auth.limits import RateLimit
from resubmit_api.auth.refusals import Refusals
from resubmit_api.auth.tokens import LOCAL, Caller, Role, Tokens, digest_of
from resubmit_api.errors import needs, problem
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.replay.plans import new_job_id
from transforms.times import iso

__all__ = ["CSRF_HEADER", "Guard", "caller", "denied", "open_to", "require", "role_of"]

CSRF_HEADER = "X-CSRF-Token"
SESSION_SECONDS = 8 * 3600
"""Seconds after which a login ends."""
_FAILURES_A_MINUTE = 20
_SHORTEST_KEY = 32
_AUDIT = "persistor_audit"
_REFUSALS = "persistor_refusals"
_LONGEST_DETAIL = 1000
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FOR_ANYONE = frozenset({"static", "openapi.spec"})
"""The framework's own views; none of them shows archived data."""

_View = TypeVar("_View", bound=Callable[..., Any])


def open_to(role: Role, *, form: bool = False) -> Callable[[_View], _View]:
    """Declare who may call a view; place it directly below the route.

    Args:
        role: the lowest role allowed.
        form: the view also accepts form data. Other views accept JSON only, which no other site's form can
            send.
    """

    def declare(view: _View) -> _View:
        view.role, view.form = role, form  # type: ignore[attr-defined]
        return view

    return declare


def role_of(app: Flask, endpoint: str) -> Role | None:
    """The role that an endpoint's view declares, or None."""
    if endpoint in _FOR_ANYONE:
        return Role.ANYONE
    role: Role | None = getattr(app.view_functions[endpoint], "role", None)
    return role


def caller() -> Caller | None:
    """The caller of this request, or None if nobody is logged in."""
    found: Caller | None = g.get("caller")
    return found


def require(role: Role) -> None:
    """Respond 403 to callers with a lower role; for a part of a view that needs a higher role."""
    found = caller()
    if found is None or found.role < role:
        raise denied(f"This needs the role {role.name.lower()}.")


class Guard:
    """Passes a request on to its view or refuses it.

    Without tokens, every caller is :data:`~resubmit_api.auth.tokens.LOCAL`; :mod:`resubmit_api.serve` then
    listens on loopback only.
    """

    def __init__(self, tokens: Tokens | None, per_minute: int) -> None:
        self._tokens = tokens
        self._requests = RateLimit(per_minute)
        self._failures = RateLimit(_FAILURES_A_MINUTE)

    def attach(
        self, app: Flask, session_key: str | None, index: Callable[[], Index], refusals: Refusals
    ) -> None:
        """Guard every view of an application.

        Args:
            app: the application.
            session_key: signs the login cookies. A random default makes logins valid for this process only.
            index: where the audit trail is kept.
            refusals: takes the records of refused requests.

        Raises:
            ConfigurationError: the key is too short.
        """
        if session_key is not None and len(session_key) < _SHORTEST_KEY:
            raise ConfigurationError(f"`session_key`: give {_SHORTEST_KEY} characters or more.")
        app.secret_key = session_key or secrets.token_bytes(32)
        app.config["PERMANENT_SESSION_LIFETIME"] = SESSION_SECONDS
        app.config["SESSION_REFRESH_EACH_REQUEST"] = False
        app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
        app.session_interface = _Cookies()
        app.extensions[_AUDIT], app.extensions[_REFUSALS] = index, refusals
        app.before_request(self._check)
        app.context_processor(lambda: {"caller": caller(), "csrf_token": _csrf_token})

    def login(self, token: str) -> Caller | None:
        """Begin a session for the owner of this token; None if it is not valid."""
        found = self._by_token(token)
        if found is not None and self._tokens is not None:
            session.clear()
            session.permanent = True
            session.update(name=found.name, token=_short(found), csrf=secrets.token_urlsafe(32))
            _note("login", found)
        return found

    def logout(self) -> None:
        """End the caller's session, if there is one."""
        if (leaving := self._by_session()) is not None:
            _note("logout", leaving)
        session.clear()

    def _check(self) -> Response | None:
        if request.routing_exception is not None or request.endpoint is None:
            return None
        declared = role_of(current_app, request.endpoint)
        needed = Role.ADMIN if declared is None else declared
        g.caller = who = self._identify(needed)
        if who is None and needed is not Role.ANYONE:
            return _ask_to_log_in()
        if who is not None and who is not LOCAL and needed is not Role.ANYONE:
            self._limit(who)
        if request.method not in _SAFE:
            _check_forgery(who)
        if needed is not Role.ANYONE:
            require(needed)
        if request.method not in _SAFE and not (request.is_json or _takes_form(request.endpoint)):
            abort(415)
        return None

    def _identify(self, needed: Role) -> Caller | None:
        if self._tokens is None:
            return LOCAL
        if needed is not Role.ANYONE and (header := request.headers.get("Authorization")):
            return self._by_header(header)
        return self._by_session()

    def _by_header(self, header: str) -> Caller:
        scheme, _, token = header.partition(" ")
        found = self._by_token(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise _unknown("The token is invalid or was revoked.")
        g.bearer = True
        return found

    def _by_token(self, token: str) -> Caller | None:
        if self._tokens is None:
            return LOCAL
        with needs("The list of tokens"):
            found = self._tokens.find(digest_of(token))
        if found is None:
            _refuse_for(self._failures.take(request.remote_addr or ""))
            _note_refusal("refused", None, "The token is invalid or was revoked.")
        return found

    def _by_session(self) -> Caller | None:
        name, token = session.get("name"), session.get("token")
        if self._tokens is None or not isinstance(name, str) or not isinstance(token, str):
            return None
        with needs("The list of tokens"):
            found = self._tokens.named(name)
        return found if found is not None and hmac.compare_digest(_short(found), token) else None

    def _limit(self, who: Caller) -> None:
        _refuse_for(self._requests.take(who.name))


class _Cookies(SecureCookieSessionInterface):
    """Flask's signed cookie, bound to this host and to TLS if the request came over TLS."""

    def get_cookie_name(self, app: Flask) -> str:  # noqa: ARG002 - the framework's signature
        return "__Host-persistor" if request.is_secure else "persistor"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - the framework's signature
        return request.is_secure


def _takes_form(endpoint: str) -> bool:
    return getattr(current_app.view_functions[endpoint], "form", False)


def denied(detail: str, kind: str = "forbidden") -> Exception:
    """A 403 response, recorded in the audit trail."""
    if (by := caller()) is not None:  # an unknown caller must not write records without limit
        _note_refusal("denied", by, detail)
    return problem(403, kind, detail)


def _note(action: str, by: Caller) -> None:
    """Add to the audit trail; an action that cannot be recorded is refused."""
    with needs("The index"):
        current_app.extensions[_AUDIT]().append_audit(_record(action, by))


def _note_refusal(action: str, by: Caller | None, detail: str) -> None:
    current_app.extensions[_REFUSALS].put(_record(action, by, detail))


def _record(action: str, by: Caller | None, detail: str | None = None) -> dict[str, Any]:
    return {
        "id": new_job_id(),
        "time": iso(datetime.now(timezone.utc)),
        "who": None if by is None else by.name,
        "action": action,
        "address": request.remote_addr,
        "request": f"{request.method} {quote(request.path)[:500]}",
        "detail": detail and detail[:_LONGEST_DETAIL],
    }


def _refuse_for(seconds: float) -> None:
    if seconds:
        after = str(math.ceil(seconds))
        detail = f"Too many requests; try again in {after} seconds."
        raise problem(429, "limit", detail, headers={"Retry-After": after})


def _ask_to_log_in() -> Response:
    kinds = ["application/json", "text/html"]
    if request.method == "GET" and request.accept_mimetypes.best_match(kinds) == "text/html":
        return redirect(url_for("session.form", next=request.full_path.rstrip("?")), 303)
    raise _unknown("Send a token: Authorization: Bearer TOKEN.")


def _unknown(detail: str) -> Exception:
    headers = {"WWW-Authenticate": "Bearer"}
    if "HX-Request" in request.headers:
        headers["HX-Redirect"] = url_for("session.form")
    return problem(401, "unauthenticated", detail, headers=headers)


def _check_forgery(who: Caller | None) -> None:
    """A request with a browser's cookie must come from one of our pages."""
    if g.get("bearer"):
        return  # which no browser sends on its own
    if not _is_same_origin(request):
        raise denied("The request comes from another site's page.", "forgery")
    if who is not None and who is not LOCAL:
        given = request.headers.get(CSRF_HEADER) or request.form.get("csrf_token", "")
        if not hmac.compare_digest(given.encode(), _csrf_token().encode()):
            raise denied(
                f"Requests of a logged-in browser need the header {CSRF_HEADER}; reload the page.", "forgery"
            )


def _is_same_origin(asked: Request) -> bool:
    # Fetch metadata is sent to https and localhost only; Origin with all cross-site requests but safe ones.
    site, origin = asked.headers.get("Sec-Fetch-Site"), asked.headers.get("Origin")
    if site is not None:
        return site in {"same-origin", "none"}
    return origin is None or origin.partition("://")[2] == asked.host


def _csrf_token() -> str:
    token: str = session.get("csrf", "")
    return token


def _short(found: Caller) -> str:
    return found.digest[:16]
