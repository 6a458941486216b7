"""Whatever a request holds is data: in JSON, in addresses, in forms, in cursors."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resubmit_api.cursors import job_cursor, search_cursor
from tests.api.conftest import Client
from tests.api.hostile._texts import (
    ACTIONS,
    EVERYTHING,
    FORMS,
    HOSTILE,
    PLANS,
    QUERIES,
    RESUBMISSIONS,
    SEARCH,
    TEXTS,
    is_page,
    is_problem,
    short,
)


@pytest.mark.parametrize("value", HOSTILE, ids=short)
def test_a_selection_is_data(exposed: Client, value: Any) -> None:
    for selection in (
        {"sources": [value]},
        {"ids": [value]},
        {"where": [{"attributes.version": value}]},
        {"where": [{"id": {"prefix": value}}]},
        {"where": [{"key": {"in": [value]}}]},
        {"where": [{f"attributes.{value}": "2"}]},
        {"where": [{f"attributes.{value}": {"exists": True}}]},
        {"where": [{str(value): "2"}]},
        {"where": [{"size": value}]},
        {"published_from": value},
        {"sources": ["orders"], "limit": value},
        {"all": value},
        value,
    ):
        response = exposed.post(SEARCH, json={"selection": selection})
        if response.status_code == 200:
            assert response.json() == {"messages": [], "next": None}
        else:
            is_problem(response, 422)


@pytest.mark.parametrize("value", HOSTILE, ids=short)
def test_ids_and_names_are_data(exposed: Client, value: Any) -> None:
    id = quote(str(value), safe="")
    for address in (
        f"/v1/messages/{id}",
        f"/v1/messages/{id}/payload",
        f"{RESUBMISSIONS}/{id}",
        f"{PLANS}/{id}",
    ):
        is_problem(exposed.get(address), 404)
    for action in ACTIONS:
        is_problem(exposed.post(f"{RESUBMISSIONS}/{id}/{action}", json={}), 404)
        is_problem(exposed.post(f"{RESUBMISSIONS}/x/{action}", json={"x": value}), 422)
    is_problem(exposed.patch(f"{RESUBMISSIONS}/{id}", json={"rate": {}}), 404)
    is_problem(exposed.patch(f"{RESUBMISSIONS}/x", json={"rate": {"messages_per_second": value}}), 422)
    is_problem(exposed.post(RESUBMISSIONS, json={"plan": value}), 404, 422)
    whole = {"destination": "main", "topic": "t", "selection": {"ids": ["x"]}}
    for place in (PLANS, RESUBMISSIONS):
        is_problem(exposed.post(place, json=whole | {"topic": value}), 422)
        is_problem(exposed.post(place, json=whole | {"destination": value}), 422)
        is_problem(exposed.post(place, json=whole | {"options": {"order": value}}), 422)
        is_problem(exposed.post(place, json=whole | {"options": value}), 422)
    for name in ("cursor", "state", "limit", "x"):
        is_problem(exposed.get(RESUBMISSIONS, params={name: str(value)}), 400, 422)
    for name in ("cursor", "limit", "x"):
        is_problem(exposed.get("/v1/audit", params={name: str(value)}), 400, 422)
    is_problem(exposed.post(SEARCH, json={"selection": {"all": True}, "cursor": value}), 400, 422)


@pytest.mark.parametrize("value", TEXTS, ids=short)
def test_a_forged_cursor_is_a_place_in_a_list(exposed: Client, value: str) -> None:
    """Cursors are not signed: whoever makes one gets the rows behind a place, and nothing else."""
    for time in (None, True, 0, -(1 << 63), (1 << 63) - 1):
        cursor = search_cursor(EVERYTHING.to_json(), (time, value), datetime.now(timezone.utc))
        found = exposed.post(SEARCH, json={"selection": {"all": True}, "cursor": cursor})
        assert found.status_code == 200, found.text
        is_page(exposed.get("/explore", params={"selection": '{"all": true}', "cursor": cursor}))
    if len(job_cursor(value)) <= 200:
        for address in (RESUBMISSIONS, "/v1/audit"):
            assert exposed.get(address, params={"cursor": job_cursor(value)}).status_code == 200
    is_page(exposed.get("/jobs", params={"cursor": job_cursor(value)}))


@pytest.mark.parametrize("value", HOSTILE, ids=short)
def test_forms_and_addresses_of_pages_are_data(exposed: Client, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    plain = {"destination": "main", "topic": "t", "selection": '{"ids": ["x"]}'}
    for address, names in QUERIES.items():
        for name in names:
            is_page(exposed.get(address, params={name: text}))
    for address, names in FORMS.items():
        for name in names:
            is_page(exposed.post(address, data=plain | {name: text}))
    line = {"field": f"attributes.{text}", "operator": "eq", "value": text, "join": "and"}
    is_page(exposed.get("/explore", params=line))
    is_page(exposed.post("/explore/selection", data=line))
    id = quote(text, safe="")
    is_page(exposed.get(f"/messages/{id}"))
    if "/" not in text:
        is_page(exposed.get(f"/jobs/{id}"))
        for action in ("run", "rate", *ACTIONS):
            is_page(exposed.post(f"/jobs/{id}/{action}", data={"messages_per_second": text}))


@pytest.mark.parametrize("deep", ["[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, "NaN", "1e999"])
def test_json_that_could_only_do_harm_is_refused(exposed: Client, deep: str) -> None:
    for selection in (deep, f'{{"x": {deep}}}', f'{{"where": [{{"key": {deep}}}]}}', f'{{"sample": {deep}}}'):
        body = f'{{"destination": "main", "topic": "t", "selection": {selection}}}'
        for address in (SEARCH, PLANS, RESUBMISSIONS):
            sent = exposed.post(address, data=body, headers={"Content-Type": "application/json"})
            is_problem(sent, 400, 422)
        for address in ("/resubmit", "/dead-letters/send-back"):
            sent = exposed.post(address, data={"destination": "main", "topic": "t", "selection": selection})
            assert sent.status_code == 422
            is_page(sent)
        is_page(exposed.get("/explore", params={"selection": selection}))
        is_page(exposed.get("/resubmit", params={"selection": selection}))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "-1", "0.5", "9" * 400, "0x10", "1_0"])
def test_a_form_takes_numbers_that_a_person_writes(exposed: Client, number: str) -> None:
    form = {"destination": "main", "topic": "t", "selection": '{"ids": ["x"]}'}
    refused = exposed.post("/resubmit", data=form | {"limit": number})
    assert refused.status_code == 422
    assert f'value="{number}"' in refused.text
    is_page(exposed.post("/resubmit-request", data=form | {"percent": number}))


OPERATORS = st.sampled_from(["$eq", "$in", "$gt", "$exists", "$where", "$regex", "x"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$eq", "$in", "$gt", "$exists", "$where", "$regex", "x"]), parts, max_size=2
        )
    ),
    max_leaves=6,
)


NAMES = st.sampled_from(
    [
        *("broker_id", "broker_msg_id", "unique_id", "ordering_key", "location_key", "location_position"),
        *("publish_time", "ingestion_time", "business_source_key"),
        *("additional_metadata.version", "additional_metadata.$where", "$or"),
    ]
)


BODIES = JSON | st.fixed_dictionaries(
    {},
    optional={
        "filters": JSON | st.lists(st.dictionaries(NAMES, JSON, max_size=3), max_size=3),
        "ids": JSON | st.lists(st.text(max_size=5)),
        "broker_id": JSON,
        "lb": JSON | st.just("0001-01-01T00:00:00+14:00"),
        "ub": JSON | st.just("9999-12-31T23:59:59-14:00"),
    },
)


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
def test_any_body_at_the_compatible_addresses_is_answered(exposed: Client, body: Any) -> None:
    # 503: a filter that is right is sent, and the destination does not answer.
    for address in ("query/c", "all/c", "resubmit/c?topic=t", "range/c?topic=t", "query/c?topic=t"):
        answer = exposed.post(f"/{address}", data=json.dumps(body))
        assert answer.status_code in {200, 400, 503}, answer.text
        assert answer.json() is None or isinstance(answer.json(), dict | list)


@pytest.mark.parametrize("value", TEXTS, ids=short)
def test_addresses_that_are_compatible_are_data(exposed: Client, value: str) -> None:
    text = quote(value, safe="")
    for address in (f"/exact/c/{text}", f"/range/c/{text}", f"/range/c/orders?from={text}&limit={text}"):
        answer = exposed.get(address)
        assert answer.status_code in {200, 400}, answer.text
    for address in (f"/resubmit/c?topic={text}", f"/query/{text}?topic={text}"):
        body = {"ids": ["orders_0_0"], "filters": [{"unique_id": "orders_0_0"}]}
        answer = exposed.post(address, json=body)
        assert answer.status_code in {200, 400, 404}, answer.text
        assert answer.status_code != 200 or answer.json()["summary"]["published_count"] == 0
