"""What launching on Flink refuses before it asks the cluster, and how it tells why a job failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.settings.parsing import parse
from resubmit_api.launchers.flink import FlinkLauncher, cause
from resubmit_api.launchers.subprocess import SubprocessLauncher
from resubmit_api.settings import ApiSettings
from transforms.errors import ConfigurationError

_STACK = """java.lang.RuntimeException: Failed to finish remote bundle
\tat org.apache.beam.runners.flink.Operator.finish(Operator.java:1)
\t... 7 more
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 5: Traceback:
  File "reading.py", line 1, in process
transforms.errors.PermanentError: the lake is another broker's

\tat org.apache.beam.runners.fnexecution.Client.handle(Client.java:2)
"""


def test_the_cause_of_a_failure_is_the_innermost_one_with_the_workers_own_words() -> None:
    assert cause(_STACK).splitlines()[-1] == "transforms.errors.PermanentError: the lake is another broker's"
    assert "\tat " not in cause(_STACK)
    assert cause("java.lang.Exception: no more\n\tat a.b(c.java:1)\n") == "java.lang.Exception: no more"


def test_the_cause_of_a_refused_connection_says_where() -> None:
    stack = (
        "UncheckedExecutionException: UNAVAILABLE: io exception\n\tat a.b(c.java:1)\n"
        "Caused by: AnnotatedConnectException: Connection refused: /127.0.0.1:50000\n"
        "Caused by: java.net.ConnectException: Connection refused\n\tat a.b(c.java:1)\n\t... 7 more\n"
    )
    assert cause(stack).splitlines() == [
        "AnnotatedConnectException: Connection refused: /127.0.0.1:50000",
        "java.net.ConnectException: Connection refused",
    ]


def test_options_that_the_launcher_sets_are_refused(tmp_path: Path) -> None:
    options = {"flink_master": "h:8081", "job_name": "mine"}
    with pytest.raises(ConfigurationError, match="`launcher_config: job_name`"):
        FlinkLauncher(SubprocessLauncher(tmp_path), options)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--launcher=flink"], "needs --launcher_config flink_master="),
        (["--launcher_config=flink_master=h:8081"], "--launcher_config goes with --launcher flink"),
    ],
)
def test_the_api_learns_where_flink_is_and_only_then(words: list[str], told: str) -> None:
    given = ["--index=mongodb://h/d", "--lake=file:///lake", "--destination=a=kafka://h:1"]
    with pytest.raises(ConfigurationError, match=told):
        parse(ApiSettings, [*given, *words])
