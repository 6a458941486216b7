"""Google Cloud Dataflow's REST service as far as jobs are launched, looked at and ended.

It is strict where the service is: requests are parsed with the service's own message types, unknown
fields are refused, and so are parameters that a template does not have or whose value its regular
expressions do not admit. Nothing runs: a job's state is what :meth:`Dataflow.set_state` says.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.cloud import dataflow_v1beta3 as dataflow
from google.protobuf import json_format

from tests.servers import Server

__all__ = ["TOKEN", "Dataflow"]

TOKEN = "token-of-the-tests"
_EMAIL = "tests@my-project.iam.gserviceaccount.com"
_PLACE = r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
_STATES = dataflow.JobState
_ENDED = {
    _STATES.JOB_STATE_DONE,
    _STATES.JOB_STATE_FAILED,
    _STATES.JOB_STATE_CANCELLED,
    _STATES.JOB_STATE_DRAINED,
}
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")


class Dataflow(Server):
    """Templates are given as files; ``gs://templates/NAME.json`` stands for ``templates/NAME.json``."""

    name: ClassVar[str] = "dataflow"

    def __init__(self, templates: Path) -> None:
        super().__init__()
        self._templates = templates

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """This module as a program."""
        return [sys.executable, "-m", "tests.servers.dataflow", str(self.port), str(self._templates)]

    def environment(self) -> Mapping[str, str]:
        """Where the module is found."""
        return {"PYTHONPATH": str(Path(__file__).parents[2])}

    def answers(self) -> bool:
        """Whether it refuses a stranger."""
        answer = requests.get(f"{self.url}/v1b3/projects/p/locations/l/jobs", timeout=5)
        return answer.status_code == 401

    def account(self, file: Path) -> Path:
        """Write a service account's key for Google's clients, who get :data:`TOKEN` for it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        account = {"type": "service_account", "project_id": "my-project", "private_key": text}
        email = {"client_email": _EMAIL, "token_uri": f"{self.url}/token"}
        file.write_text(json.dumps(account | email), encoding="utf-8")
        return file

    def set_state(self, job: str, state: str) -> None:
        """What has become of a job, without ``JOB_STATE_``; fails where there is no such job."""
        requests.post(f"{self.url}/tests/{job}/{state}", timeout=5).raise_for_status()

    def launched(self) -> list[dict[str, Any]]:
        """What was launched: the launch's parameters and environment as JSON, in order."""
        return list(requests.get(f"{self.url}/tests", timeout=5).json())


class _RefusedError(Exception):
    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.body = {"error": {"code": code, "status": status, "message": message}}
        self.code = code


class _Service:
    def __init__(self, templates: Path) -> None:
        self.templates = templates
        self.jobs: dict[str, Any] = {}
        self.launches: list[dict[str, Any]] = []

    def launch(self, body: bytes, place: Mapping[str, str]) -> Any:
        request = _parsed(body, dataflow.LaunchFlexTemplateRequest)
        launch = request.launch_parameter
        path = launch.container_spec_gcs_path
        file = self.templates / path.removeprefix("gs://templates/")
        if not path.startswith("gs://templates/") or not file.is_file():
            raise _RefusedError(404, "NOT_FOUND", f"{path} is no template")
        spec = _parsed(file.read_bytes(), dataflow.ContainerSpec)
        _check_parameters(spec.metadata, dict(launch.parameters))
        streaming = spec.metadata.streaming
        kind = dataflow.JobType.JOB_TYPE_STREAMING if streaming else dataflow.JobType.JOB_TYPE_BATCH
        job = self.enter(dataflow.Job(name=launch.job_name, type_=kind), place)
        self.launches.append(json.loads(_json(launch)))
        return dataflow.LaunchFlexTemplateResponse(job=job)

    def create(self, body: bytes, place: Mapping[str, str]) -> Any:
        """A job that Beam describes itself, with its graph staged in a bucket."""
        job = _parsed(body, dataflow.Job)
        options = json_format.MessageToDict(dataflow.Environment.pb(job.environment))["sdkPipelineOptions"]
        if not str(options["options"].get("pipelineUrl", "")).startswith("gs://"):
            raise _RefusedError(400, "INVALID_ARGUMENT", "the job's graph lies in no bucket")
        return self.enter(job, place)

    def enter(self, job: Any, place: Mapping[str, str]) -> Any:
        if not _JOB_NAME.fullmatch(job.name):
            raise _RefusedError(400, "INVALID_ARGUMENT", f"{job.name!r} is no name of a job")
        if any(other.name == job.name and other.current_state not in _ENDED for other in self.jobs.values()):
            raise _RefusedError(409, "ALREADY_EXISTS", f"There is already an active job named {job.name}.")
        job.id = f"2026-11-23_00_00_00-{len(self.jobs):019d}"
        job.project_id, job.location = place["project"], place["location"]
        job.current_state = _STATES.JOB_STATE_QUEUED
        self.jobs[job.id] = job
        return job

    def get(self, id: str) -> Any:
        if id not in self.jobs:
            raise _RefusedError(404, "NOT_FOUND", f"Job {id} not found.")
        return self.jobs[id]

    def list(self, query: Mapping[str, list[str]]) -> Any:
        wanted = dataflow.ListJobsRequest.Filter(int(query.get("filter", ["0"])[0]))
        if wanted not in {dataflow.ListJobsRequest.Filter.ACTIVE, dataflow.ListJobsRequest.Filter.UNKNOWN}:
            raise _RefusedError(400, "INVALID_ARGUMENT", f"this service does not filter by {wanted.name}")
        active = wanted == dataflow.ListJobsRequest.Filter.ACTIVE
        jobs = [job for job in self.jobs.values() if not (active and job.current_state in _ENDED)]
        start = int(query.get("pageToken", ["0"])[0])
        more = start + 2 < len(jobs)
        # Two a page, so that clients turn pages.
        return dataflow.ListJobsResponse(
            jobs=jobs[start : start + 2], next_page_token=str(start + 2) if more else ""
        )

    def update(self, id: str, body: bytes) -> Any:
        job, wanted = self.get(id), _parsed(body, dataflow.Job)
        if wanted != dataflow.Job(requested_state=wanted.requested_state):
            raise _RefusedError(400, "INVALID_ARGUMENT", "only the requested state of a job can be changed")
        if job.current_state in _ENDED:
            raise _RefusedError(400, "FAILED_PRECONDITION", f"Job {id} has terminated.")
        if wanted.requested_state == _STATES.JOB_STATE_CANCELLED:
            job.current_state = _STATES.JOB_STATE_CANCELLING
        elif wanted.requested_state == _STATES.JOB_STATE_DRAINED:
            if job.type_ != dataflow.JobType.JOB_TYPE_STREAMING:
                raise _RefusedError(400, "FAILED_PRECONDITION", "only a streaming job can be drained")
            job.current_state = _STATES.JOB_STATE_DRAINING
        else:
            raise _RefusedError(
                400, "INVALID_ARGUMENT", f"a job cannot be made {wanted.requested_state.name}"
            )
        job.requested_state = wanted.requested_state
        return job

    def set_state(self, id: str, state: str) -> None:
        self.get(id).current_state = _STATES[f"JOB_STATE_{state}"]


def _knows(authorization: str) -> bool:
    """The token, or one that the account has signed for itself; signatures are not checked."""
    token = authorization.removeprefix("Bearer ")
    if token == TOKEN:
        return True
    parts = token.split(".")
    claims = base64.urlsafe_b64decode(parts[1] + "==") if len(parts) == 3 else b"{}"
    return bool(json.loads(claims).get("iss") == _EMAIL)


def _check_parameters(metadata: Any, given: Mapping[str, str]) -> None:
    known = {parameter.name: parameter for parameter in metadata.parameters}
    missing = [name for name, p in known.items() if not p.is_optional and name not in given]
    strange = sorted(set(given) - set(known))
    bad = [
        name
        for name, value in given.items()
        if name in known and not all(re.fullmatch(regex, value) for regex in known[name].regexes)
    ]
    if missing or strange or bad:
        told = f"missing {missing}, unrecognized {strange}, not matching their regexes {bad}"
        raise _RefusedError(400, "INVALID_ARGUMENT", f"The template parameters are invalid: {told}")


def _parsed(body: bytes, kind: Any) -> Any:
    message = kind()
    try:
        json_format.Parse(body, kind.pb(message), ignore_unknown_fields=False)
    except json_format.ParseError as error:
        raise _RefusedError(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from error
    return message


def _json(message: Any) -> str:
    return str(json_format.MessageToJson(type(message).pb(message), use_integers_for_enums=False))


class _Handler(BaseHTTPRequestHandler):
    service: _Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            code, text = 200, self._found(method, body)
        except _RefusedError as error:
            code, text = error.code, json.dumps(error.body)
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _found(self, method: str, body: bytes) -> str:
        service, url = self.service, urlsplit(self.path)
        if url.path == "/token":
            return json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        if url.path == "/tests":
            return json.dumps(service.launches)
        if control := re.fullmatch("/tests/([^/]+)/([A-Z]+)", url.path):
            service.set_state(*control.groups())
            return "{}"
        if not _knows(self.headers.get("Authorization") or ""):
            raise _RefusedError(
                401, "UNAUTHENTICATED", "Request is missing required authentication credential."
            )
        return _json(self._routed(method, url.path, parse_qs(url.query), body))

    def _routed(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Any:
        service = self.service
        if (method == "POST") and (found := re.fullmatch(f"{_PLACE}/flexTemplates:launch", path)):
            return service.launch(body, found.groupdict())
        if found := re.fullmatch(f"{_PLACE}/jobs", path):
            return service.list(query) if method == "GET" else service.create(body, found.groupdict())
        if found := re.fullmatch(f"{_PLACE}/jobs/(?P<job>[^/]+)/messages", path):
            service.get(found["job"])
            return dataflow.ListJobMessagesResponse()
        if found := re.fullmatch(f"{_PLACE}/jobs/(?P<job>[^/]+)", path):
            return service.get(found["job"]) if method == "GET" else service.update(found["job"], body)
        raise _RefusedError(404, "NOT_FOUND", f"{method} {path}")


if __name__ == "__main__":
    _Handler.service = _Service(Path(sys.argv[2]))
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
