"""The form of a resubmission: writes the body of the API request, which the API's model validates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from werkzeug.datastructures import MultiDict

from transforms.errors import ConfigurationError
from transforms.replay.options import Options
from transforms.selection import read_json
from transforms.settings import settings_in
from transforms.settings.kinds import FLAG

__all__ = ["checked", "write_rate", "write_request"]

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{0,15})?")
_SIZE = re.compile(r"([0-9][0-9., ]*)([kmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_Model = TypeVar("_Model", bound=BaseModel)


def write_request(given: MultiDict[str, str]) -> dict[str, Any]:
    """The body of a request for a plan, with the options that differ from their defaults.

    Raises:
        ConfigurationError: the selection is not a JSON object, or a number is not valid.
    """
    options = {
        option.name: option.kind is FLAG or given[option.name]
        for option in settings_in(Options)
        if given.get(option.name) and given[option.name] != option.default
    }
    body = {
        "destination": given.get("destination", ""),
        "topic": given.get("topic", "").strip(),
        "selection": _selection(given),
    }
    note = given.get("note", "").strip()
    return body | ({"options": options} if options else {}) | ({"note": note} if note else {})


def write_rate(given: MultiDict[str, str]) -> dict[str, Any]:
    """The ``rate`` of the body. Empty fields mean no limit; bytes may have a unit such as MB."""
    return {
        "messages_per_second": _number("messages per second", given.get("messages_per_second", "")),
        "bytes_per_second": _bytes("bytes per second", given.get("bytes_per_second", "").strip()),
    }


def checked(model: type[_Model], body: Mapping[str, Any]) -> _Model:
    """The body, validated by a model of the API.

    Raises:
        ConfigurationError: lists all problems in sentences.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise ConfigurationError(list(map(_sentence, error.errors()))) from error


def _selection(given: MultiDict[str, str]) -> Any:
    selection = read_json(given.get("selection", ""))
    if not isinstance(selection, dict):
        raise ConfigurationError('The selection must be a JSON object, such as {"sources": ["orders"]}.')
    limit, percent = _number("at most", given.get("limit", "")), _number("share", given.get("percent", ""))
    if limit is not None and not limit.is_integer():
        raise ConfigurationError(f"Maximum messages: enter a whole number, not {limit}.")
    given_limits = {"limit": limit and int(limit), "sample": percent and percent / 100}
    return selection | {name: value for name, value in given_limits.items() if value is not None}


def _number(name: str, text: str) -> float | None:
    plain = text.replace(",", "").replace(" ", "")
    if not plain:
        return None
    if not _NUMBER.fullmatch(plain):
        raise ConfigurationError(f"{name}: “{text[:40]}” is not a number.")
    return float(plain)


def _bytes(name: str, text: str) -> float | None:
    found = _SIZE.fullmatch(text)
    number = _number(name, found[1] if found else text)
    return number if number is None or found is None else number * _UNITS[found[2].lower()]


def _sentence(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    text = error["msg"].removeprefix("Value error, ").rstrip(".")
    if place == "topic":
        text = "write a topic's name, or a pattern such as {topic}-replay"
    return f"{place}: {text}." if place else f"{text}."
