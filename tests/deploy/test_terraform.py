"""Terraform for Google Cloud: formatted, closed in itself, no right too many, planned by its provider."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import hcl2
import pytest

from pipelines.settings.declared import settings_of
from tests.deploy.commands import parsed
from tests.servers import Unavailable
from tests.servers.programs import PROVIDER, TERRAFORM, Program

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "templates" / "terraform" / "gcp"
TEXT = "\n".join(path.read_text() for path in sorted(MODULE.glob("*.tf")))
CODE = re.sub(r"(?m)^\s*#.*$", "", TEXT)

_PER_OBJECT = {
    "google_storage_bucket_iam_member": {
        "roles/storage.objectViewer",
        "roles/storage.objectCreator",
        "roles/storage.objectUser",
    },
    "google_pubsub_subscription_iam_member": {"roles/pubsub.subscriber", "roles/pubsub.viewer"},
    "google_pubsub_topic_iam_member": {"roles/pubsub.publisher", "roles/pubsub.viewer"},
    "google_kms_crypto_key_iam_member": {"roles/cloudkms.cryptoKeyEncrypterDecrypter"},
    "google_secret_manager_secret_iam_member": {"roles/secretmanager.secretAccessor"},
    "google_service_account_iam_member": {"roles/iam.serviceAccountUser"},
}
_PER_PROJECT = {"google_project_iam_member": {"roles/dataflow.worker", "roles/dataflow.developer"}}


def _blocks(kind: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The labels and the body of each block of a kind."""
    for path in sorted(MODULE.glob("*.tf")):
        with path.open() as file:
            parsed_file = hcl2.load(file)
        for block in parsed_file.get(kind, []):
            labels: list[str] = []
            while "__is_block__" not in block:
                [(label, block)] = block.items()  # noqa: PLW2901 - one label a level
                labels.append(label.strip('"'))
            yield labels, {name: value for name, value in block.items() if not name.startswith("__")}


def _installed(program: Program) -> Path:
    try:
        return program.install()
    except Unavailable as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def _terraform(*arguments: str, cwd: Path, **own: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **own}
    command = [_installed(TERRAFORM), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def _evaluated(directory: Path, values: dict[str, Any], **expressions: str) -> dict[str, Any]:
    """What Terraform makes of expressions over the module's variables.

    Raises:
        ValueError: it refuses the values; says why.
    """
    (directory / "variables.tf").write_text((MODULE / "variables.tf").read_text())
    outputs = [f'output "{name}" {{\n  value = {text}\n}}\n' for name, text in expressions.items()]
    (directory / "outputs.tf").write_text("".join(outputs))
    (directory / "terraform.tfvars.json").write_text(json.dumps(values))
    for step in (["init"], ["apply", "-auto-approve"]):
        done = _terraform(*step, "-input=false", "-no-color", cwd=directory)
        if done.returncode:
            raise ValueError(" ".join(done.stderr.replace("│", " ").split()))
    told = json.loads(_terraform("output", "-json", cwd=directory).stdout)
    return {name: one["value"] for name, one in told.items()}


_VALUES = {"project": "p", "region": "europe-west3", "topics": ["orders", "payments"]}


class _Google(BaseHTTPRequestHandler):
    """Answers what a plan looks up: that a topic exists, and the account of the storage service."""

    def do_GET(self) -> None:
        place = self.path.partition("?")[0].strip("/")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"name": place, "email_address": "storage@example.com"}).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def _google() -> Iterator[dict[str, str]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Google) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}/"
        names = ("GOOGLE_PUBSUB_CUSTOM_ENDPOINT", "GOOGLE_STORAGE_CUSTOM_ENDPOINT")
        yield {"GOOGLE_OAUTH_ACCESS_TOKEN": "none", **dict.fromkeys(names, place)}
        server.shutdown()


@pytest.fixture(scope="module")
def provided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The module but for its job, a beta resource, and what makes Terraform take the built provider."""
    folder = tmp_path_factory.mktemp("provided")
    module = folder / "module"
    shutil.copytree(MODULE, module, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    job = re.compile(r'(?ms)^resource "google_dataflow_flex_template_job".*?^}\n')
    (module / "dataflow.tf").write_text(job.sub("", (MODULE / "dataflow.tf").read_text()))
    place = _installed(PROVIDER).parent
    overrides = "".join(f'"hashicorp/{name}" = "{place}"\n' for name in ("google", "google-beta"))
    configuration = folder / "terraform.rc"
    configuration.write_text(f"provider_installation {{\ndev_overrides {{\n{overrides}}}\ndirect {{}}\n}}\n")
    return module, {"TF_CLI_CONFIG_FILE": str(configuration)}


def _planned(module: Path, own: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The resources that a plan makes, by address.

    Raises:
        ValueError: the provider, or Terraform, refuses the values; says why.
    """
    (module / "terraform.tfvars.json").write_text(json.dumps(values))
    with _google() as endpoints:
        done = _terraform("plan", "-input=false", "-no-color", "-out=plan", cwd=module, **own, **endpoints)
    if done.returncode:
        raise ValueError(" ".join(done.stderr.replace("│", " ").split()))
    shown = json.loads(_terraform("show", "-json", "plan", cwd=module, **own).stdout)
    return {one["address"]: one["change"]["after"] for one in shown["resource_changes"]}


def test_googles_provider_accepts_it(provided: tuple[Path, dict[str, str]]) -> None:
    module, own = provided
    told = json.loads(_terraform("validate", "-json", cwd=module, **own).stdout)
    assert (told["error_count"], [one["summary"] for one in told["diagnostics"]]) == (
        0,
        ["Provider development overrides are in effect"],
    )


def test_googles_provider_plans_it_with_and_without_dataflow(provided: tuple[Path, dict[str, str]]) -> None:
    module, own = provided
    few = _planned(module, own, {**_VALUES, "project": "some-project"})
    values = {
        "image": "i",
        "template": "gs://t/persist.json",
        "expire_after_days": 400,
        "destinations": ["copy"],
    }
    more = _planned(module, own, {**_VALUES, "project": "some-project", **values})
    assert few.keys() < more.keys()
    assert {address.partition(".")[0] for address in more.keys() - few.keys()} == {
        "google_project_iam_member",
        "google_pubsub_topic_iam_member",
        "google_service_account_iam_member",
        "google_storage_bucket_iam_member",
    }
    ages = [
        [rule["condition"][0]["age"] for rule in plan["google_storage_bucket.lake"]["lifecycle_rule"]]
        for plan in (few, more)
    ]
    assert ages == [[7], [430, 7]]
    subscription = few['google_pubsub_subscription.source["orders"]']
    assert (subscription["name"], subscription["topic"]) == (
        "orders-persistor",
        "projects/some-project/topics/orders",
    )


def test_the_beta_job_has_arguments_that_its_documentation_names() -> None:
    _installed(PROVIDER)
    page = PROVIDER.source() / "website" / "docs" / "r" / "dataflow_flex_template_job.html.markdown"
    told = dict(re.findall(r"(?m)^\* `(\w+)` - (\(Required\))?", page.read_text()))
    [job] = [body for labels, body in _blocks("resource") if labels[0] == "google_dataflow_flex_template_job"]
    of_terraform = {"count", "provider", "depends_on"}
    assert job.keys() - of_terraform <= told.keys()
    assert {name for name, required in told.items() if required} <= job.keys()


def test_it_is_formatted() -> None:
    done = _terraform("fmt", "-check", "-recursive", "-no-color", cwd=MODULE)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_variable_and_output_is_described_and_every_variable_used() -> None:
    variables = {name: body for [name], body in _blocks("variable")}
    for name, body in variables.items():
        assert len(body["description"]) > 12, name
        assert "type" in body, name
        assert re.search(rf"\bvar\.{name}\b", CODE.replace(f'variable "{name}"', "")), f"{name} is not used"
    assert set(re.findall(r"\bvar\.([a-z_]+)", CODE)) == variables.keys()
    for [name], body in _blocks("output"):
        assert len(body["description"]) > 12, name


def test_everything_that_is_referred_to_is_there() -> None:
    made = {".".join(labels) for labels, _ in _blocks("resource")}
    looked_up = {".".join(labels) for labels, _ in _blocks("data")}
    named = set(re.findall(r"(?<![\w.\"/])(data\.)?(google_[a-z_]+\.[a-z_]+)", CODE))
    assert {place for data, place in named if data} == looked_up
    assert {place for data, place in named if not data} <= made
    given = {name for _, body in _blocks("locals") for name in body}
    assert set(re.findall(r"\blocal\.([a-z_]+)", CODE)) == given


def test_rights_are_few_and_on_single_objects() -> None:
    allowed = _PER_OBJECT | _PER_PROJECT
    rights = [(labels[0], body) for labels, body in _blocks("resource") if "_iam_" in labels[0]]
    assert {kind for kind, _ in rights} == allowed.keys(), (
        "members only: bindings and policies take others' rights"
    )
    for kind, body in rights:
        role = body["role"].strip('"')
        assert role in allowed[kind] or role == "${each.value.role}", (kind, role)
        assert re.match(r"\$\{(google_service_account\.part\[|data\.google_storage_project)", body["member"])
    assert (
        set(re.findall(r'role += +"(roles/storage[^"]+)"', CODE))
        <= _PER_OBJECT["google_storage_bucket_iam_member"]
    )
    assert not re.search(r"roles/(owner|editor|viewer)\"|\.admin\"|allUsers|allAuthenticatedUsers", CODE)


def test_who_archives_can_neither_replace_nor_delete() -> None:
    line = re.compile(r'\{ part = "(\w+)", role = "roles/storage\.(\w+)", condition = ([\w.]+) \}')
    rights = {(part, role): condition for part, role, condition in line.findall(CODE)}
    assert {role for part, role in rights if part == "persist"} == {"objectViewer", "objectCreator"}
    assert rights["api", "objectUser"] == "local.jobs"
    assert {part for part, role in rights if role == "objectUser"} == {"api", "expire"}


def test_buckets_are_closed_and_encrypted() -> None:
    buckets = {
        labels[1]: body for labels, body in _blocks("resource") if labels[0] == "google_storage_bucket"
    }
    assert buckets.keys() == {"lake", "staging"}
    for body in buckets.values():
        assert body["uniform_bucket_level_access"] is True
        assert body["public_access_prevention"] == '"enforced"'
        assert body["encryption"][0]["default_kms_key_name"] == "${google_kms_crypto_key.lake.id}"
    keys = [body for labels, body in _blocks("resource") if labels == ["google_kms_crypto_key", "lake"]]
    assert keys[0]["rotation_period"] == '"7776000s"'
    assert [body["lifecycle"][0]["prevent_destroy"] for body in (keys[0], buckets["lake"])] == [True, True]


def test_the_lifecycle_rule_is_behind_expire_and_leaves_claims_alone(tmp_path: Path) -> None:
    [rule] = re.findall(r"for_each = (var\.expire_after_days == null .*)", CODE)
    [prefixes] = re.findall(r"matches_prefix = (\[for .*\])", CODE)
    told = _evaluated(tmp_path, {**_VALUES, "expire_after_days": 400}, ages=rule, prefixes=prefixes)
    assert told == {"ages": [430], "prefixes": ["lake/orders/", "lake/payments/"]}
    path = next(setting.default for setting in settings_of("persist") if setting.name == "path")
    assert path is not None
    assert f"lake/{path.replace('{topic}', 'orders')}".startswith(told["prefixes"][0])
    assert not any("lake/_persistor/claims/".startswith(prefix) for prefix in told["prefixes"])


def test_without_retention_nothing_is_deleted(tmp_path: Path) -> None:
    [rule] = re.findall(r"for_each = (var\.expire_after_days == null .*)", CODE)
    assert _evaluated(tmp_path, _VALUES, ages=rule) == {"ages": []}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"topics": []}, "Name at least one topic"),
        ({"lake_prefix": "lake/"}, "without a slash at its ends"),
        ({"backstop_days": 1}, "The index must be cleared first"),
        ({"name": "A"}, "3 to 15 small letters"),
        ({"undelete_days": 3}, "0, or 7 to 90"),
        ({"expire_after_days": 0}, "at least 1 whole day"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        _evaluated(tmp_path, {**_VALUES, **values}, name="var.name")


def test_the_job_is_given_parameters_that_its_template_has() -> None:
    [job] = [body for labels, body in _blocks("resource") if labels[0] == "google_dataflow_flex_template_job"]
    template = json.loads((ROOT / "templates" / "dataflow" / "persist.json").read_text())
    known = {one["name"]: one for one in template["metadata"]["parameters"]}
    assert job["parameters"].keys() <= known.keys()
    assert {name for name, one in known.items() if not one["isOptional"]} <= job["parameters"].keys()
    for name, value in job["parameters"].items():
        example = value.strip('"').split("${join", 1)[0]
        example = re.sub(r"\$\{[^}]*\}", "7", example) + ("orders" if "${join" in value else "")
        assert all(re.fullmatch(pattern, example) for pattern in known[name].get("regexes", [])), (
            name,
            example,
        )


def test_no_secret_passes_through_terraform() -> None:
    assert "google_secret_manager_secret_version" not in CODE
    assert not re.search(r"(?i)password|token *=", CODE)


def test_what_is_to_be_run_daily_is_a_command_of_ours() -> None:
    [pieces] = re.findall(r'"(persistor expire [^"]*)",\s*"([^"]*)"', CODE)
    line = (
        " ".join(pieces)
        .replace("${var.expire_after_days}", "400")
        .replace("INDEX", "mongodb://mongo/persistor")
    )
    line = re.sub(r"\$\{[^}]*\}", "x", line)
    assert parsed(shlex.split(line)[1:]).command == "expire"
