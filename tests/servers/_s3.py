"""What the two S3 servers have in common."""

from __future__ import annotations

import json
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

    def allow_everybody(self, bucket: str, *actions: str) -> None:
        """Let requests without a signature do just this, such as ``GetObject``."""
        everybody = {"Effect": "Allow", "Principal": {"AWS": ["*"]}}
        allowed = [
            {
                **everybody,
                "Action": [f"s3:{action}"],
                "Resource": [f"arn:aws:s3:::{bucket}" + ("/*" if action.endswith("Object") else "")],
            }
            for action in actions
        ]
        policy = {"Version": "2012-10-17", "Statement": allowed}
        self._client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
        )
