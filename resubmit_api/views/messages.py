"""The endpoints that find messages and return one."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from apiflask import APIBlueprint
from flask import Response

from resubmit_api.auth import open_to
from resubmit_api.auth.tokens import Role
from resubmit_api.messages import Found, read_message
from resubmit_api.rendering import message_to_json, search_page
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

    Entries by publish time and id, page by page. Paging returns each message once, even while others are
    added.
    """
    return search_page(index(), json_data.selection, json_data.limit, json_data.cursor, json_data.asked)


@blueprint.get("/<id:id>")
@open_to(Role.VIEWER)
@blueprint.output(Message)
@blueprint.doc(operation_id="getMessage", responses=problems(404, 410, 502, 503))
def get(id: str) -> dict[str, Any]:
    """Get a message.

    Its entry and its headers from the lake, after verification of id and checksum.
    """
    return message_to_json(_read(id))


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

    The archived bytes, after verification of id and checksum.
    Always a download of unknown type, so that no browser executes it.
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
