"""What is told of the message that a job's end posts to its `callbackUrl`."""

from __future__ import annotations

from downloader.web.contract import examples
from downloader.web.contract.schemas import PLACE, Schema

WHEN = "{$request.body#/callbackUrl}"
_HEADERS = {
    "webhook-id": "The id of the message, the same for every try: drop what you have had.",
    "webhook-timestamp": "When it was sent, in seconds since 1970; refuse what is old.",
    "webhook-signature": "`v1,` and the base64 of an HMAC-SHA256 of `id.timestamp.body`; several, separated by blanks.",
}


def callbacks() -> Schema:
    """The callback of an initiate call, as OpenAPI tells it."""
    message = {
        "summary": "The job has ended",
        "description": "One signed message (Standard Webhooks) when the job has ended. Any 2xx takes it, 410 ends the "
        "tries, anything else is tried again with growing pauses; redirects are not followed.",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": PLACE + "Message"}, "example": examples.MESSAGE}},
        },
        "responses": {"2XX": {"description": "Taken."}, "410": {"description": "Do not try again."}},
    }
    return {"jobEnded": {WHEN: {"post": message}}}
