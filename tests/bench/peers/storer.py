"""The cheapest way to store so many bytes: signed in advance, sent from one buffer.

Parts of 8 MiB, eight connections, each a thread that does nothing but send. With curl fetching the same bytes beside
it, it is the limit of what any contestant can reach.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from tests.bench.peers.program import Task, measured, read_task

AT_ONCE = 8
PART = 8 * 1024 * 1024


def _send(url: str, body: memoryview) -> str:
    """PUT the body; gives the entity tag."""
    parts = urlsplit(url)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
        connection.sendall(head.encode())
        connection.sendall(body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = connection.recv(65536)
            if not received:
                break
            answer += received
    lines = answer.decode("latin-1").split("\r\n")
    if " 200 " not in f"{lines[0]} ":
        raise RuntimeError(lines[0])
    return next(line.partition(":")[2].strip() for line in lines if line.lower().startswith("etag:"))


def prepared(task: Task) -> Callable[[], None]:
    """Begin the upload and sign; gives what sends."""
    client = task.place.client()
    total = sum(task.sizes)
    content = memoryview(random.Random(5).randbytes(min(PART, total)))
    where = {"Bucket": task.place.bucket, "Key": task.key}
    upload = client.create_multipart_upload(**where)["UploadId"]
    urls = [
        client.generate_presigned_url("upload_part", Params=where | {"UploadId": upload, "PartNumber": number})
        for number in range(1, -(-total // PART) + 1)
    ]
    bodies = [content[: min(PART, total - start)] for start in range(0, total, PART)]

    def send_all() -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tags = list(pool.map(_send, urls, bodies))
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})

    return send_all


if __name__ == "__main__":
    SENDING = prepared(read_task())
    print("ready", flush=True)
    sys.stdin.readline()  # until told to begin, by the end of the input
    measured(SENDING)
