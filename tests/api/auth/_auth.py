"""What the tests of access share: five tokens, and what is said to who has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient

from resubmit_api.auth.tokens import digest_of
from tests.api.conftest import Client

KEY = "k" * 32
NARROW = {"sources": ["orders*"], "destinations": ["main/orders-*"]}
LINES: dict[str, dict[str, Any]] = {
    "viewer": {"role": "viewer"},
    "operator": {"role": "operator"},
    "admin": {"role": "admin"},
    "narrow": {"role": "operator"} | NARROW,
    "nothing": {"role": "viewer", "sources": []},
}
SEARCH, PLANS, RESUBMISSIONS = "/v1/messages/search", "/v1/plans", "/v1/resubmissions"
LOOKING = {"messages.search", "compatible.query", "compatible.look_up", "pages_explore.written"}
"""What is asked with a body and changes nothing."""

MISSING = "nats://127.0.0.1:1"


def write_tokens(file: Path, *names: str) -> str:
    """The list of tokens in which each token is ``t-`` and its name."""
    lines = [{"name": name, "sha256": digest_of(f"t-{name}")} | LINES[name] for name in names]
    new = file.with_suffix(".new")
    new.write_text(json.dumps(lines))
    new.replace(file)
    return str(file)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer t-{name}"}


def problem_of(response: requests.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:persistor:problem:{kind}"
    return str(response.json()["detail"])


def log_in(client: Client, name: str, **fields: str) -> requests.Response:
    return client.post("/login", data={"token": f"t-{name}"} | fields, allow_redirects=False)


def csrf_of(client: Client) -> str:
    """What a page of a login holds for its requests."""
    app = Flask("reader")
    app.secret_key = KEY
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    [cookie] = client.cookies.values()
    return str(serializer.loads(cookie)["csrf"])


def ask(client: FlaskClient, method: str, address: str, name: str | None) -> bool:
    """Whether a request gets as far as its view."""
    body = {"json": {}} if method not in {"GET", "HEAD"} else {}
    answer = client.open(address, method=method, headers=bearer(name) if name else {}, **body)
    kind = (answer.get_json(silent=True) or {}).get("type", "")
    if address == "/login" and method == "POST":
        return True  # it answers 401 itself
    return answer.status_code not in {401, 403} and "unauthenticated" not in kind
