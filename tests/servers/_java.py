"""Java, for the servers that are written in it."""

from __future__ import annotations

import functools
import re
import subprocess

from tests.servers import Unavailable, tool

__all__ = ["JAVA_LINE", "java"]

JAVA_LINE = "sudo apt-get install openjdk-17-jre-headless maven"
"""What installs Java and Maven on Debian."""


@functools.cache
def java() -> str:
    """The program; raises ``Unavailable`` where there is none that is new enough."""
    program = tool("java", JAVA_LINE)
    shown = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version[1]) < 17:
        raise Unavailable("the Java on this machine is older than 17", JAVA_LINE)
    return program
