"""A lake in MinIO, which ``templates/compose.yaml`` runs, does what every lake must do."""

from __future__ import annotations

import pytest

from tests._traits import apply_to
from tests.contract.lakes.conftest import lake, store
from tests.contract.lakes.test_names import TestDeleting, TestLists, TestNames
from tests.contract.lakes.test_objects import TestKills, TestReading, TestWriting
from tests.contract.lakes.test_refusals import TestRefusals
from tests.servers.minio import MinIO

__all__ = [
    "TestDeleting",
    "TestKills",
    "TestLists",
    "TestNames",
    "TestReading",
    "TestRefusals",
    "TestWriting",
    "lake",
    "store",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    apply_to(metafunc, "store", {"minio": MinIO})
