"""What the two S3 servers have in common for their clients."""

from __future__ import annotations

import boto3

__all__ = ["PASSWORD", "REGION", "USER", "client_config", "create_bucket"]

USER, PASSWORD, REGION = "persistor", "right-password", "us-east-1"


def client_config(url: str) -> dict[str, str]:
    """obstore's settings for a server at ``url``."""
    return {
        "endpoint": url,
        "region": REGION,
        "access_key_id": USER,
        "secret_access_key": PASSWORD,
    }


def create_bucket(url: str, name: str) -> str:
    """Create a bucket; returns its URL as a lake."""
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=USER,
        aws_secret_access_key=PASSWORD,
    )
    client.create_bucket(Bucket=name)
    return f"s3://{name}"
