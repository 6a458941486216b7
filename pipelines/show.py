"""The command show: one message from the lake, verified."""

from __future__ import annotations

import sys
from contextlib import closing

from pipelines.connections import patiently
from pipelines.settings.terminal import ShowSettings
from pipelines.terminal.messages import message_json, show_message
from transforms import registry
from transforms.errors import PermanentError
from transforms.lake import Lake
from transforms.one_message import read_one

__all__ = ["run"]


def run(settings: ShowSettings) -> int:
    """Print a message: what the index has of it, its headers, and its payload.

    Returns:
        The exit code, which is 0.

    Raises:
        PermanentError: it is not indexed, its file is missing, or the lake holds something else.
        TransientError: index or lake did not answer for a minute.
    """
    lakes = [Lake(url, settings.lake_config) for url in settings.lakes]
    with closing(registry.index(settings.index).open(settings.index)) as index:
        entry = patiently(lambda: index.get(settings.id), "look up the message")
    if not len(entry):
        raise PermanentError(f"No message with the id {settings.id!r} is indexed: check the id and `index`.")
    message, verified_by = patiently(lambda: read_one(lakes, entry), "read the message")
    if settings.payload:
        sys.stdout.buffer.write(message["data"][0].as_py() or b"")
        sys.stdout.buffer.flush()
    elif settings.json:
        print(message_json(entry, message, verified_by))
    else:
        show_message(entry, message, verified_by, settings.view)
    return 0
