"""Finding messages, and looking at one."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from apiflask import APIBlueprint
from flask import Response, url_for

from resubmit_api.auth import open_to
from resubmit_api.auth_tokens import Role
from resubmit_api.cursors import read_search_cursor, search_cursor
from resubmit_api.errors import needs
from resubmit_api.messages import Found, read_message
from resubmit_api.rows import bytes_to_json, entries_to_json
from resubmit_api.schemas import EntryPage, Message, SearchRequest
from resubmit_api.views.context import index, parts, problems

__all__ = ["blueprint"]

blueprint = APIBlueprint("messages", __name__, url_prefix="/v1/messages", tag="Messages")

_NOT_FOR_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_PAYLOAD = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@blueprint.post("/search")
@open_to(Role.VIEWER)
@blueprint.input(SearchRequest)
@blueprint.output(EntryPage)
@blueprint.doc(operation_id="searchMessages", responses=problems(400, 413, 415, 422, 503))
def search(json_data: SearchRequest) -> dict[str, Any]:
    """Search messages.

    Entries by publish time and id, a page at a time.
    Paging meets each message once, also while others are added.
    """
    question = json_data.selection.to_json()
    after = None if json_data.cursor is None else read_search_cursor(question, json_data.cursor)
    with needs("The index"):
        found = index().search(json_data.selection, json_data.limit, after)
    more = len(found) == json_data.limit
    return {
        "messages": entries_to_json(found),
        "next": search_cursor(question, _last(found)) if more else None,
    }


@blueprint.get("/<id:id>")
@open_to(Role.VIEWER)
@blueprint.output(Message)
@blueprint.doc(operation_id="getMessage", responses=problems(404, 410, 502, 503))
def get(id: str) -> dict[str, Any]:
    """Look at a message.

    Its entry and its headers as they lie in the lake, after id and checksum were verified.
    """
    found = _read(id)
    [entry] = entries_to_json(found.entry)
    size = pc.binary_length(found.message["data"])[0].as_py()
    return entry | {
        "headers": [_header(header) for header in _headers(found.message)],
        "payload_size": size,
        "payload": url_for("messages.payload", id=id),
        "verified_by": found.verified_by,
    }


@blueprint.get("/<id:id>/payload")
@open_to(Role.VIEWER)
@blueprint.doc(
    operation_id="getPayload",
    responses={
        200: {"description": "The payload, byte for byte", "content": _PAYLOAD},
        204: {"description": "The message has no payload (a tombstone)", "content": {}},
        **problems(404, 410, 502, 503),
    },
)
def payload(id: str) -> Response:
    """Download a payload.

    The bytes as they were archived, after id and checksum were verified.
    Always a download of unknown type, so that no browser runs it.
    """
    data = _read(id).message["data"][0].as_py()
    if data is None:
        return Response(status=204)
    response = Response(data, mimetype="application/octet-stream")
    name = _NOT_FOR_NAMES.sub("_", id)[:150]
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{name}.bin\"; filename*=UTF-8''{quote(id[:300], safe='')}.bin"
    )
    return response


def _read(id: str) -> Found:
    return read_message(index(), parts().backends.lakes, id)


def _last(found: pa.Table) -> tuple[int | None, str]:
    row = found.slice(len(found) - 1)
    return row["publish_time"].cast(pa.int64())[0].as_py(), row["id"][0].as_py()


def _headers(message: pa.Table) -> list[dict[str, Any]]:
    # Names in files of other products may be invalid UTF-8, which Python's strings cannot be made of.
    raw = pa.list_(pa.struct([("name", pa.binary()), ("value", pa.binary())]))
    headers: list[dict[str, Any]] = message["headers"].cast(raw)[0].as_py()
    return headers


def _header(header: dict[str, bytes | None]) -> dict[str, Any]:
    name, value = header["name"] or b"", header["value"]
    return {"name": name.decode(errors="replace"), "value": bytes_to_json(value)}
