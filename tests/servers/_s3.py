"""What the two S3 servers have in common."""

from __future__ import annotations

from typing import Any

import boto3

from tests.servers import Server

__all__ = ["PASSWORD", "REGION", "USER", "S3Server"]

USER, PASSWORD, REGION = "persistor", "right-password", "us-east-1"


class S3Server(Server):
    """What clients need to know of it."""

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> dict[str, str]:
        """What a lake needs to reach it."""
        return {
            "endpoint": self.url,
            "region": REGION,
            "access_key_id": USER,
            "secret_access_key": PASSWORD,
        }

    def create_bucket(self, name: str) -> str:
        """Create a bucket; returns its URL as a lake."""
        self._client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
        )
