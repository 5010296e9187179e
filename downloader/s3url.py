"""`s3://bucket/key`: an object named as the AWS command line names it.

The key is taken literally: nothing in it is decoded, and it has neither query nor fragment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

SCHEME = "s3://"
KEY_BYTES_MAX = 1024
_SCHEME = re.compile(SCHEME, re.IGNORECASE)
BUCKET_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"
_BUCKET = re.compile(BUCKET_PATTERN)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class S3Url:
    """A bucket and an object's key in it."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `s3://bucket/key`; ValueError says what is wrong, and never repeats what may be a secret."""
        if not is_s3(text):
            raise ValueError("must begin with s3://")
        bucket, _, key = text[len(SCHEME) :].partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError("must name a bucket, as in s3://bucket/path/file.pdf")
        if not key or key.endswith("/"):
            raise ValueError("must name an object, as in s3://bucket/path/file.pdf")
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise ValueError("must not have '.' or '..' as a part of its key: servers disagree about what they mean")
        if _CONTROL.search(key):
            raise ValueError("must not contain control characters")
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise ValueError("must be valid Unicode") from None
        if size > KEY_BYTES_MAX:
            raise ValueError(f"must have a key of at most {KEY_BYTES_MAX} bytes")
        return cls(bucket, key)


def is_s3(url: str) -> bool:
    """Whether `url` has the scheme s3."""
    return _SCHEME.match(url) is not None
