"""A store as all contestants are told of it. Imports as little as may be: it is part of their memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore.config import Config

BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """Where archives go: a store, its keys and a bucket that is there."""

    endpoint_url: str
    access_key_id: str = "bench"
    secret_access_key: str = "bench-secret"
    bucket: str = BUCKET

    def client(self) -> Any:
        """A client of the store, with addresses that can be signed in advance."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def settings(self) -> list[str]:
        """The service's settings for it."""
        return [
            f"storage.endpoint_url={self.endpoint_url}",
            f"storage.access_key_id={self.access_key_id}",
            f"storage.secret_access_key={self.secret_access_key}",
            f"storage.bucket={self.bucket}",
        ]
