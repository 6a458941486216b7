"""Flink's REST API as an operator uses it: jars, savepoints, and how a job fares."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resubmit_api.launchers.flink import ENDED, FlinkRest, cause
from transforms.errors import PermanentError, TransientError

__all__ = ["ENTRY", "WholeRest"]

ENTRY = "org.apache.beam.runners.flink.FlinkPipelineRunner"
"""The class that runs the jar of a job of Beam."""
_COUNTERS = ".persistor_"
_SAVED_WITHIN = 600.0
_ASK_EVERY = 0.25


class WholeRest(FlinkRest):
    """The whole of what tests ask; raises as :class:`FlinkRest`."""

    def upload(self, jar: Path) -> str:
        """Store a job's jar; returns its id."""
        with jar.open("rb") as file:
            answer = self._ask("POST", "jars/upload", files={"jarfile": (jar.name, file)})
        return str(answer["filename"]).rpartition("/")[2]

    def run(self, jar: str, *, parallelism: int | None = None, savepoint: str | None = None) -> str:
        """Start the job of a stored jar, from a savepoint where one is named; returns the job's id."""
        given = {"parallelism": parallelism, "savepointPath": savepoint}
        body = {"entryClass": ENTRY, **{name: value for name, value in given.items() if value is not None}}
        return str(self._ask("POST", f"jars/{jar}/run", json=body)["jobid"])

    def delete(self, jar: str) -> None:
        """Remove a stored jar; jobs that were started from it go on."""
        self._ask("DELETE", f"jars/{jar}")

    def running(self) -> list[str]:
        """The ids of all jobs that have not ended."""
        jobs = self._ask("GET", "jobs")["jobs"]
        return [str(job["id"]) for job in jobs if job["status"] not in ENDED]

    def failure(self, job: str) -> str:
        """What caused the latest failure, without Java's stack; empty where there was none."""
        history = self._ask("GET", f"jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return cause(str(history[0]["stacktrace"])) if history else ""

    def checkpoints(self, job: str) -> Mapping[str, Any]:
        """Flink's account of a job's checkpoints: ``counts``, ``latest`` and others."""
        return dict(self._ask("GET", f"jobs/{job}/checkpoints"))

    def vertices(self, job: str) -> list[dict[str, Any]]:
        """Flink's account of a job's operators: ``name``, ``parallelism``, ``status`` and others."""
        return list(self._ask("GET", f"jobs/{job}")["vertices"])

    def counters(self, job: str) -> dict[str, int]:
        """Persistor's own counters of a running job by name, such as ``messages``, summed over all workers.

        Flink gathers figures only while somebody asks: the first answer may lack them.
        """
        totals: dict[str, int] = defaultdict(int)
        for vertex in self.vertices(job):
            path = f"jobs/{job}/vertices/{vertex['id']}/subtasks/metrics"
            ours = [one["id"] for one in self._ask("GET", path) if _COUNTERS in one["id"]]
            for one in self._ask("GET", path, params={"get": ",".join(ours)}) if ours else ():
                totals[one["id"].rpartition(_COUNTERS)[2]] += int(one["sum"])
        return dict(totals)

    def savepoint(self, job: str, *, stop: bool = False, directory: str | None = None) -> str:
        """Take a savepoint and return its place once it is complete.

        Args:
            stop: end the job with it: nothing is read behind it.
            directory: where it goes; the cluster's own place unless given.
        """
        what = "stop" if stop else "savepoints"
        named = {} if directory is None else {"targetDirectory" if stop else "target-directory": directory}
        trigger = self._ask("POST", f"jobs/{job}/{what}", json=named)["request-id"]
        deadline = time.monotonic() + _SAVED_WITHIN
        while (answer := self._ask("GET", f"jobs/{job}/savepoints/{trigger}"))["status"]["id"] != "COMPLETED":
            if time.monotonic() > deadline:
                raise TransientError(f"Flink did not complete a savepoint of {job} in {_SAVED_WITHIN:g} s")
            time.sleep(_ASK_EVERY)
        operation = answer["operation"]
        if "location" not in operation:
            reason = cause(str(operation.get("failure-cause", {}).get("stack-trace", "")))
            raise PermanentError(f"Flink could not take a savepoint of {job}: {reason}")
        return str(operation["location"])
