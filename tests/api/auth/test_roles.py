"""What a role may do, and that each address asks for one."""

from __future__ import annotations

import re

from apiflask import APIFlask

from resubmit_api.auth import role_of
from resubmit_api.auth.tokens import Role
from tests.api.auth._auth import (
    LOOKING,
    ask,
    bearer,
)


class TestRoles:
    def test_every_view_says_who_may_call_it(self, app: APIFlask) -> None:
        assert [rule for rule in app.url_map.iter_rules() if role_of(app, rule.endpoint) is None] == []

    def test_only_these_are_open_to_anyone(self, app: APIFlask) -> None:
        rules = app.url_map.iter_rules()
        free = {rule.rule for rule in rules if role_of(app, rule.endpoint) is Role.ANYONE}
        assert free == {
            "/static/<path:filename>",
            "/openapi.json",
            "/docs",
            "/healthz",
            "/readyz",
            "/login",
            "/logout",
        }

    def test_what_sends_or_changes_needs_an_operator(self, app: APIFlask) -> None:
        safe = {"GET", "HEAD", "OPTIONS"}
        rules = [rule for rule in app.url_map.iter_rules() if (rule.methods or set()) - safe]
        lower = {rule.endpoint for rule in rules if role_of(app, rule.endpoint) < Role.OPERATOR}
        assert lower == LOOKING | {"session.login", "session.logout"}

    def test_a_view_that_declares_nothing_is_for_administrators(self, app: APIFlask) -> None:
        app.add_url_rule("/undeclared", "undeclared", lambda: "shown")
        statuses = {
            name: app.test_client().get("/undeclared", headers=bearer(name)).status_code
            for name in ("viewer", "operator", "admin")
        }
        assert statuses == {"viewer": 403, "operator": 403, "admin": 200}

    def test_each_route_lets_its_roles_in_and_nobody_else(self, app: APIFlask) -> None:
        client = app.test_client()
        for rule in list(app.url_map.iter_rules()):
            address = re.sub(r"<any\((\w+)[^>]*>", r"\1", rule.rule)
            address = re.sub(r"<[^>]*>", "x", address)
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                needed = role_of(app, rule.endpoint)
                assert ask(client, method, address, None) == (needed is Role.ANYONE), rule
                for name in ("viewer", "operator", "admin"):
                    may = needed <= Role[name.upper()]
                    assert ask(client, method, address, name) == may, (rule, method, name)
