"""``make templates``: writes the specification of each Flex template from the settings of its command."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pipelines.flex import TEMPLATES, parameters
from pipelines.settings.help import SUMMARIES
from transforms.settings import Setting
from transforms.settings.kinds import FLAG

__all__ = ["main", "specification"]

_STREAMING = ("persist", "index")
_LIST = r'\["(.|\n)*"\]'


def main() -> int:
    """Write ``COMMAND.json`` for each template: the arguments are the directory and the image."""
    directory, image = Path(sys.argv[1]), sys.argv[2]
    for command in TEMPLATES:
        text = json.dumps(specification(command, image), indent=2, ensure_ascii=False)
        (directory / f"{command}.json").write_text(text + "\n", encoding="utf-8")
    return 0


def specification(command: str, image: str) -> dict[str, Any]:
    """A template's ``ContainerSpec`` as JSON types.

    Args:
        command: one of ``pipelines.flex.TEMPLATES``.
        image: of launcher and workers, with its registry.
    """
    own = {"command": (command, "the Persistor job to run"), "sdk_container_image": (image, _IMAGE)}
    fixed = [_fixed(name, value, help_text) for name, (value, help_text) in own.items()]
    metadata = {
        "name": f"Persistor: {command}",
        "description": f"{SUMMARIES[command].capitalize()}.",
        "parameters": [*fixed, *map(_parameter, parameters(command))],
        **({"streaming": True} if command in _STREAMING else {}),
    }
    return {"image": image, "sdkInfo": {"language": "PYTHON"}, "metadata": metadata}


_IMAGE = "image of the workers, the same as the template's"


def _fixed(name: str, value: str, help_text: str) -> dict[str, Any]:
    """Parameters that the template requires although they have only one valid value."""
    regexes = [f"^{re.escape(value)}$"] if name == "command" else ["^.+$"]
    return {
        "name": name,
        "label": name,
        "helpText": help_text,
        "isOptional": False,
        "regexes": regexes,
        "paramType": "TEXT",
        "defaultValue": value,
    }


def _parameter(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "label": setting.name.replace("_", " "),
        "helpText": setting.help + (". A JSON list for several values" if setting.repeatable else ""),
        "isOptional": not setting.required and setting.name != "resume",
        "regexes": [f"^({_pattern(setting)})$"],
        "paramType": "BOOLEAN" if setting.kind is FLAG else "ENUM" if setting.choices else "TEXT",
        **({"defaultValue": setting.default} if setting.default else {}),
        **({"enumOptions": [{"value": one} for one in setting.choices]} if setting.choices else {}),
    }


def _pattern(setting: Setting) -> str:
    pattern = "|".join(setting.choices) or setting.kind.pattern
    return f"{pattern}|{_LIST}" if setting.repeatable else pattern


if __name__ == "__main__":
    sys.exit(main())
