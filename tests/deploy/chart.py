"""The Helm chart in tests.

``python -m tests.deploy.chart schema`` writes its schema anew, ``… golden`` the golden files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import Any

from pipelines.settings.declared import settings_of
from tests.servers.programs import HELM
from transforms.settings import Setting
from transforms.settings.kinds import FLAG, PAIRS

__all__ = ["CHART", "COMMANDS", "GOLDEN", "OWN", "VALUES", "golden", "helm", "rendered", "schema"]

_HERE = Path(__file__).resolve().parent
CHART = _HERE.parents[1] / "templates" / "helm" / "persistor"
VALUES = sorted((_HERE / "values").glob("*.yaml"))
GOLDEN = _HERE / "golden"
COMMANDS = ("persist", "index", "api", "expire", "maintain")
OWN = {"shard", "processes", "shards", "metrics_host", "metrics_port", "host", "port", "yes"}
"""Settings that the chart itself gives."""


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    command = [str(HELM.install()), *map(str, arguments), "--kube-version=1.33.0"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def rendered(values: Path) -> str:
    """What a release named ``archive`` would be, with the values of a file."""
    done = helm("template", "archive", CHART, "--namespace=data", f"--values={values}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def golden(values: Path) -> str:
    """The same, with but a mark for the alert rules, which have tests of their own."""
    rules = (CHART / "files" / "alerts.yml").read_text()
    return rendered(values).replace(indent(rules, "  ", lambda _: True).rstrip(), "  # alerts.yml")


def schema() -> dict[str, Any]:
    """``values.schema.json``: the settings of each part by their declarations."""
    return {
        "$schema": "https://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{command: _part(command) for command in COMMANDS},
            "image": _closed(
                repository=_TEXT, tag=_TEXT, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}
            ),
            "imagePullSecrets": {"type": "array", "items": {"type": "object"}},
            "serviceAccount": _closed(annotations=_MAP, automountToken=_SWITCH),
            "networkPolicy": _closed(enabled=_SWITCH, metricsFrom=_LIST, apiFrom=_LIST, egress=_LIST),
            "podDisruptionBudget": _closed(enabled=_SWITCH),
            "serviceMonitor": _closed(enabled=_SWITCH, interval=_TEXT, labels=_MAP),
            "prometheusRule": _closed(enabled=_SWITCH, labels=_MAP),
            "global": _MAP,
        },
    }


_TEXT, _SWITCH, _MAP, _LIST = ({"type": kind} for kind in ("string", "boolean", "object", "array"))
_SHARED = {
    **dict.fromkeys(("resources", "nodeSelector", "affinity"), _MAP),
    **dict.fromkeys(("podAnnotations", "podLabels", "serviceAccountAnnotations"), _MAP),
    "secrets": {"type": "array", "items": _TEXT},
    **dict.fromkeys(("env", "tolerations"), _LIST),
    "priorityClassName": _TEXT,
}
_PULL = {"enum": ["Always", "IfNotPresent", "Never"]}
_COUNT = {"type": "integer", "minimum": 1}


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _part(command: str) -> dict[str, Any]:
    own: dict[str, Any] = {"shards": _COUNT}
    if command == "api":
        scaling = _closed(enabled=_SWITCH, minReplicas=_COUNT, maxReplicas=_COUNT, cpu=_COUNT)
        service = _closed(type=_TEXT, port=_COUNT, annotations=_MAP)
        token = _closed(name=_TEXT, key=_TEXT)
        own = {"replicas": _COUNT, "autoscaling": scaling, "service": service, "metricsToken": token}
    if command in {"expire", "maintain"}:
        own = {"schedule": _TEXT}
    part = _closed(enabled=_SWITCH, settings=_settings(command), **own, **_SHARED)
    needed = [setting.name for setting in settings_of(command) if setting.required]
    needed += ["tokens"] if command == "api" else []
    part["if"] = {"properties": {"enabled": {"const": True}}}
    part["then"] = {"required": ["settings"], "properties": {"settings": {"required": needed}}}
    return part


def _settings(command: str) -> dict[str, Any]:
    given = [setting for setting in settings_of(command) if setting.name not in OWN]
    return _closed(**{setting.name: _kind(setting) for setting in given})


def _kind(setting: Setting) -> dict[str, Any]:
    if setting.name == "index":  # SQLite would lie in one pod, and go with it
        return {"type": "string", "pattern": "^(mongodb://|none$)"}
    if setting.kind is FLAG:
        return _SWITCH
    if setting.choices:
        return {"enum": list(setting.choices)}
    if setting.repeatable:
        return {"type": ["object", "array"] if setting.kind is PAIRS else ["string", "array", "object"]}
    return {"type": ["string", "integer"]}


def _main(wanted: str) -> None:
    if wanted == "schema":
        (CHART / "values.schema.json").write_text(json.dumps(schema(), indent=1) + "\n")
    for values in VALUES if wanted == "golden" else ():
        (GOLDEN / values.name).write_text(golden(values))


if __name__ == "__main__":
    _main(sys.argv[1])
