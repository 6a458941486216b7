"""The Helm chart: linted, rendered, held against Kubernetes' schemas, its settings read by our parser."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipelines.settings.declared import settings_of
from tests.deploy.chart import CHART, COMMANDS, GOLDEN, OWN, VALUES, golden, helm, rendered, schema
from tests.deploy.commands import parsed
from tests.servers import Unavailable
from tests.servers.programs import HELM

_OLDEST, _NEWEST = "1.28", "1.37"
_LABELS = "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"


@pytest.fixture(scope="module", autouse=True)
def _helm() -> None:
    try:
        HELM.install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(params=VALUES, ids=lambda path: path.stem)
def values(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def _objects(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def _pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in objects:
        template = _template(one)
        if template:
            yield one["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def _template(one: dict[str, Any]) -> dict[str, Any]:
    """Of its pods; nothing where it makes none."""
    spec = one.get("spec", {})
    return dict(spec.get("jobTemplate", {}).get("spec", spec).get("template", {}))


def test_it_passes_helms_own_checks(values: Path) -> None:
    done = helm("lint", "--strict", "--quiet", CHART, f"--values={values}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_renders_what_it_did_before(values: Path) -> None:
    assert golden(values) == (GOLDEN / values.name).read_text(), "run: make golden"


def test_the_schema_is_that_of_the_declarations() -> None:
    assert json.loads((CHART / "values.schema.json").read_text()) == schema(), "run: make reference"


def test_kubernetes_accepts_every_object(values: Path) -> None:
    for one in _objects(rendered(values)):
        if not one["apiVersion"].startswith("monitoring."):
            for version in (_OLDEST, _NEWEST) if values.stem == "whole" else (_NEWEST,):
                kubernetes_validate.validate(one, version, strict=True)


def test_no_two_objects_share_a_name_and_selectors_find_their_pods(values: Path) -> None:
    objects = _objects(rendered(values))
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)
    pods = {
        one["metadata"]["name"]: _template(one)["metadata"]["labels"] for one in objects if _template(one)
    }
    services = {
        one["metadata"]["name"]: one["metadata"]["labels"] for one in objects if one["kind"] == "Service"
    }
    for one in objects:
        spec = one.get("spec", {})
        wanted = spec.get("podSelector") or spec.get("selector") or {}
        wanted = wanted.get("matchLabels", wanted)
        if not wanted:
            continue
        among = services if one["kind"] == "ServiceMonitor" else pods
        found = [name for name, labels in among.items() if wanted.items() <= labels.items()]
        assert found == [one["metadata"]["name"]], one["kind"]


def test_every_pod_is_confined(values: Path) -> None:
    for part, pod in _pods(_objects(rendered(values))):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"], part
        if part == "expire":
            assert pod["restartPolicy"] == "Never"
            continue
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        [port] = container["ports"]
        default = {setting.name: setting.default for setting in settings_of(part)}
        assert str(port["containerPort"]) == default["port" if part == "api" else "metrics_port"]


def test_our_parser_takes_what_each_pod_is_given(values: Path, tmp_path: Path) -> None:
    objects = _objects(rendered(values))
    settings = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    seen = 0
    for part, pod in _pods(objects):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (tmp_path / f"{part}.yaml").write_text(
            settings[volumes["settings"]["configMap"]["name"]]["settings.yaml"]
        )
        [container] = pod["containers"]
        words = " ".join(container["args"]).replace("$(SHARD)", "0")
        words = words.replace("/etc/persistor/settings.yaml", str(tmp_path / f"{part}.yaml"))
        assert parsed(words.split()).command == part
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        text = (tmp_path / f"{part}.yaml").read_text()
        assert set(re.findall(r"/run/secrets/[^/}\s]+", text)) <= mounted, (
            "a secret is read that is not mounted"
        )
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        seen += 1
    assert seen >= 1


def test_shards_are_as_many_as_pods(values: Path) -> None:
    for one in _objects(rendered(values)):
        if one["kind"] == "StatefulSet":
            [container] = one["spec"]["template"]["spec"]["containers"]
            assert container["args"][-1] == f"--shard=$(SHARD)/{one['spec']['replicas']}"
            [shard, *_] = container["env"]
            assert (
                shard["valueFrom"]["fieldRef"]["fieldPath"]
                == "metadata.labels['apps.kubernetes.io/pod-index']"
            )


def test_every_part_has_an_account_of_its_own_with_its_own_annotations_before_those_of_all(
    values: Path,
) -> None:
    objects = _objects(rendered(values))
    accounts = {
        one["metadata"]["name"]: one["metadata"] for one in objects if one["kind"] == "ServiceAccount"
    }
    used = {pod["serviceAccountName"]: part for part, pod in _pods(objects)}
    assert used.keys() == accounts.keys()
    given = yaml.safe_load(values.read_text())
    for name, part in used.items():
        wanted = {
            **given.get("serviceAccount", {}).get("annotations", {}),
            **given.get(part, {}).get("serviceAccountAnnotations", {}),
        }
        assert accounts[name].get("annotations", {}) == wanted


def test_expire_runs_daily_alone_and_deletes() -> None:
    objects = _objects(rendered(next(path for path in VALUES if path.stem == "whole")))
    [job] = [one["spec"] for one in objects if one["kind"] == "CronJob"]
    assert (job["schedule"], job["timeZone"], job["concurrencyPolicy"]) == ("30 2 * * *", "Etc/UTC", "Forbid")
    [container] = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["expire", "--config=/etc/persistor/settings.yaml", "--yes"]
    [policy] = [
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"].endswith("-expire")
    ]
    assert ("Ingress" in policy["policyTypes"], "ingress" in policy) == (True, False)  # nobody may call it
    for path in VALUES:
        if path.stem != "whole":
            assert "CronJob" not in rendered(path), "it is off unless asked for"


def test_the_notes_name_what_there_is_and_commands_of_ours(values: Path, tmp_path: Path) -> None:
    chart = tmp_path / "persistor"
    shutil.copytree(CHART, chart)
    shutil.copy(CHART / "templates" / "NOTES.txt", chart / "files" / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text(
        'notes: {{ tpl (.Files.Get "files/notes.txt") . | quote }}'
    )
    done = helm("template", "archive", chart, f"--values={values}", "--show-only=templates/notes.yaml")
    notes = yaml.safe_load(done.stdout)["notes"]
    made = {f"{one['kind'].lower()}/{one['metadata']['name']}": one for one in _objects(rendered(values))}
    named = set(re.findall(r"(?:statefulset|deployment|cronjob|service)/[\w-]+", notes))
    assert named <= made.keys()
    assert {name for name, one in made.items() if _template(one)} <= named
    for command in re.findall(r"-- persistor doctor (\w+) --config", notes):
        assert command in COMMANDS


def test_the_objects_of_the_prometheus_operator_are_whole() -> None:
    objects = _objects(rendered(next(path for path in VALUES if path.stem == "whole")))
    own = {one["kind"]: one for one in objects if one["apiVersion"] == "monitoring.coreos.com/v1"}
    assert own.keys() == {"ServiceMonitor", "PrometheusRule"}
    alerts = yaml.safe_load((CHART / "files" / "alerts.yml").read_text())
    assert own["PrometheusRule"]["spec"] == alerts
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations", "keep_firing_for"}
    for one in objects:
        if one["kind"] == "ServiceMonitor":
            assert one["metadata"]["labels"]["release"] == "prometheus"
            assert one["spec"].keys() == {"selector", "endpoints"}
            [endpoint] = one["spec"]["endpoints"]
            assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
            assert ("authorization" in endpoint) == one["metadata"]["name"].endswith("-api")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("persist.settings.sorce=x", "persist.settings: Additional property sorce is not allowed"),
        ("persist.settings.format=xml", "persist.settings.format must be one of"),
        ("persist.settings.index=sqlite:///x.db", "persist.settings.index: Does not match pattern"),
        ("persist.shards=0", "persist.shards: Must be greater than or equal to 1"),
        ("persist.settings=null", "persist: settings is required"),
        ("index.replicas=2", "index: Additional property replicas is not allowed"),
        ("expire.settings=null", "expire: settings is required"),
        ("expire.settings.yes=true", "expire.settings: Additional property yes is not allowed"),
    ],
)
def test_values_that_mean_nothing_are_refused(setting: str, told: str) -> None:
    whole = next(path for path in VALUES if path.stem == "whole")
    done = helm("template", "archive", CHART, f"--values={whole}", f"--set={setting}")
    assert done.returncode != 0
    assert told in done.stderr


def test_the_chart_gives_only_settings_that_exist() -> None:
    for name in OWN:
        assert any(name in {setting.name for setting in settings_of(command)} for command in COMMANDS), name
