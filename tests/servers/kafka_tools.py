"""Kafka's own command-line tools, under the names that its download gives them."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.servers import fetch_once, run, tool
from tests.servers._java import JAVA_LINE, java
from tests.servers.kafka import VERSION

__all__ = ["KafkaTools"]

_POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>persistor</groupId><artifactId>kafka-tools</artifactId><version>1</version>
<dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version>
</dependency></dependencies></project>
"""
_PROGRAM = """#!/bin/sh
libs="$(dirname "$0")/../libs/*"
exec {java} -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$libs" org.apache.kafka.tools.{tool} "$@"
"""
_TOOLS = {
    "kafka-topics.sh": "TopicCommand",
    "kafka-console-producer.sh": "ConsoleProducer",
    "kafka-console-consumer.sh": "consumer.ConsoleConsumer",
}


class KafkaTools:
    """``kafka-topics.sh``, ``kafka-console-producer.sh`` and ``kafka-console-consumer.sh``."""

    name = "kafka-tools"

    @classmethod
    def install(cls) -> Path:
        """The directory of the programs.

        Raises:
            Unavailable: this machine has no Java or no Maven.
        """
        java()
        return fetch_once(f"kafka-tools-{VERSION}", _fetch) / "bin"


def _fetch(target: Path) -> None:
    maven = tool("mvn", JAVA_LINE)
    (target / "pom.xml").write_text(_POM)
    copy = ["dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"]
    run([maven, "-q", "-B", *copy], cwd=target)
    (target / "bin").mkdir()
    for name, tool_class in _TOOLS.items():
        program = target / "bin" / name
        program.write_text(_PROGRAM.format(java=shlex.quote(java()), tool=tool_class))
        program.chmod(0o755)
