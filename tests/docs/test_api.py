"""The API as its reference and the page on its security have it."""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus

import pytest
import requests

from tests._archive import archive
from tests._replay import consumed
from tests.docs.conftest import Reader, archived_orders
from transforms import registry


@pytest.fixture
def archived(reader: Reader) -> Reader:
    with closing(registry.index(reader.index).open(reader.index)) as index:
        archive(reader.lake, index, archived_orders(20))
    return reader


def answers(reader: Reader) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{reader.session.port}/healthz", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_a_message_is_sent_by_a_request(archived: Reader) -> None:
    archived.kafka.create_topic("orders-replay")
    printed = archived.session.run("docs/reference/rest.md", __file__, ready=lambda: answers(archived))
    assert '"mode":"inline"' in printed  # and sent before the service ended
    assert [data for _, _, data, _, _ in consumed(archived.kafka, "orders-replay")] == [b"order 1"]


def test_a_token_lets_its_owner_in(archived: Reader) -> None:
    refused = []

    def ready() -> bool:
        if not answers(archived):
            return False
        url = f"http://127.0.0.1:{archived.session.port}/v1/resubmissions"
        refused.append(requests.get(url, timeout=5).status_code)
        return True

    printed = archived.session.run("docs/how-to/secure-the-api.md", __file__, ready=ready)
    assert refused == [HTTPStatus.UNAUTHORIZED]
    assert '"resubmissions":[]' in printed or '"items":[]' in printed, printed
