"""The OpenAPI document: what it says is what is answered, and its page needs nobody else."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from resubmit_api.auth.tokens import digest_of
from tests.api.conftest import Client, Site, Streams, order
from tests.servers.nats import Nats
from transforms.selection import Selection

OPERATIONS = [
    "POST /v1/plans",
    "POST /v1/resubmissions",
    "GET /v1/resubmissions",
    "GET /v1/resubmissions/{id}",
    "PATCH /v1/resubmissions/{id}",
    "POST /v1/resubmissions/{id}/approve",
    "POST /v1/resubmissions/{id}/pause",
    "POST /v1/resubmissions/{id}/resume",
    "POST /v1/resubmissions/{id}/cancel",
    "POST /v1/resubmissions/{id}/retry",
    "GET /v1/plans/{id}",
    "POST /v1/messages/search",
    "GET /v1/messages/{id}",
    "GET /v1/messages/{id}/payload",
    "GET /v1/audit",
    "GET /v1/sources",
    "GET /v1/dead-letters",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


LINES: list[dict[str, Any]] = [
    {"name": "viewer", "role": "viewer"},
    {"name": "operator", "role": "operator"},
    {"name": "admin", "role": "admin"},
    {"name": "narrow", "role": "operator", "sources": ["orders"], "destinations": ["main/open*"]},
    {"name": "elsewhere", "role": "admin", "sources": ["payments"], "destinations": ["main/payments"]},
]
CALLERS = (*(line["name"] for line in LINES), "unknown", None)
READY = {"/healthz", "/readyz"}


def bearer(name: str | None) -> dict[str, str]:
    return {} if name is None else {"Authorization": f"Bearer t-{name}"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, streams: Streams) -> Iterator[Site]:
    made = Site.at(tmp_path_factory.mktemp("openapi"))
    made.archive(*(order(n, key=b"\xff", headers=[{"name": "version", "value": b"2"}]) for n in range(5)))
    streams.create("openapi")
    yield made
    made.index.close()


@pytest.fixture(scope="module")
def service(site: Site, nats: Nats) -> Iterator[Client]:
    with site.serve({"main": nats.url}) as client:
        yield client


@pytest.fixture(scope="module")
def schema(service: Client) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


@pytest.fixture(scope="module")
def guarded(site: Site, nats: Nats) -> Iterator[Any]:
    """The document of a service that asks for tokens."""
    lines = [line | {"sha256": digest_of(f"t-{line['name']}")} for line in LINES]
    (site.directory / "tokens.yaml").write_text(json.dumps(lines))
    options = {"tokens": str(site.directory / "tokens.yaml"), "requests_per_minute": 100_000}
    with site.serve({"main": nats.url}, compatible=(("c", "main"),), **options) as client:
        yield schemathesis.openapi.from_url(f"{client.url}/openapi.json")


@pytest.fixture(scope="module")
def known(service: Client) -> dict[str, list[str]]:
    """Ids that are somebody's: of a message, and of resubmissions in several states."""
    selection, options = {"ids": ["orders_0_0"]}, {"lossy": True}
    body = {"destination": "main", "topic": "openapi", "selection": selection, "options": options}
    paths = ("/v1/plans", "/v1/plans", "/v1/resubmissions")
    made = [service.post(path, json=body).json()["id"] for path in paths]
    assert service.post(f"/v1/resubmissions/{made[1]}/cancel", json={}).status_code == 200
    return {"messages": ["orders_0_0"], "jobs": made}


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_as_declared(schema: Any, operation: str, mode: GenerationMode) -> None:
    method, path = operation.split()
    cases = schema[path][method].as_strategy(generation_mode=mode)

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases)
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE and "destination" in case.body:
            case.body |= {"destination": "main", "topic": "openapi"}  # beyond the first refusal
        response = case.call()
        if response.status_code == 413 and mode is GenerationMode.NEGATIVE:
            return  # a refusal too, of a body that is wrong and large; schemathesis does not count it as one
        case.validate_response(response, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # an operation without input cannot be asked wrongly
        check()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_as_declared_to_whoever_asks(
    guarded: Any, known: dict[str, list[str]], operation: str
) -> None:
    method, path = operation.split()
    ids = known["messages" if "/messages/" in path else "jobs"]
    cases = guarded[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE)

    @settings(max_examples=28, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases, st.sampled_from(CALLERS), st.sampled_from(ids))
    def check(case: Any, name: str | None, id: str) -> None:
        if "id" in case.path_parameters:
            case.path_parameters["id"] = id
        if isinstance(case.body, dict) and "destination" in case.body:
            case.body |= {"destination": "main", "topic": "openapi"}
        response = case.call(headers=bearer(name))
        case.validate_response(response, checks=CHECKS, headers=bearer(name))
        if name in {"unknown", None} and path not in READY:
            assert response.status_code in {401, 429}  # who guesses is slowed down

    check()


def test_no_operation_is_left_out(schema: Any) -> None:
    found = {f"{o.ok().method.upper()} {o.ok().path}" for o in schema.get_all_operations()}
    assert found == set(OPERATIONS)


def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(service: Client) -> None:
    page = service.get("/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    spec = service.get("/openapi.json").json()
    for path, operations in spec["paths"].items():
        assert f"<code>{path}</code>" in page.text
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in page.text
    assert re.findall(r"<script(?! src=\"/static/[^\"]+\" defer></script>)", page.text) == []
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert loaded
    assert all(address.startswith("/") for address in loaded)
    assert service.get("/static/style.css").headers["Content-Type"] == "text/css; charset=utf-8"
    for link in re.findall(r'href="#([^"]+)"', page.text):
        assert f'id="{link}"' in page.text


def test_the_document_names_every_field_of_a_selection(service: Client) -> None:
    schemas = service.get("/openapi.json").json()["components"]["schemas"]
    selections = [schema for name, schema in schemas.items() if name.endswith("Selection")]
    for selection in selections:
        assert set(selection["properties"]) == set(Selection.model_fields)
        assert all(field["description"] for field in selection["properties"].values())
    assert len(selections) == 3
