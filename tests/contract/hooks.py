"""What a JSON schema cannot say, told to schemathesis, which loads this module: valid bodies are made valid by it.

URLs lead to the source of the trial, whose address comes by the environment, so that jobs end at once.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.hooks import HookContext

from tests.contract import ORIGIN

_PAIRS = (("fileIds", "sourceUrls"), ("file_ids", "source_urls"))

_base = os.environ.get(ORIGIN, "http://127.0.0.1:9")
_names = strategies.text("abcdefgh0123", min_size=1, max_size=4)
schemathesis.openapi.format(
    "source-url",
    strategies.builds(f"{_base}/file/{{}}/{{}}/".format, _names, strategies.integers(0, 2000))
    | strategies.builds(f"{_base}/status/{{}}".format, strategies.sampled_from((404, 403, 200))),
)
schemathesis.openapi.format("callback-url", strategies.builds(f"{_base}/called/{{}}".format, _names))


@schemathesis.hook
def before_call(context: HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Ids and URLs belong together position by position: a valid body has as many of one as of the other."""
    body: Any = case.body
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(body, dict):
        return
    for ids, urls in _PAIRS:
        if ids in body and urls in body:
            least = min(len(body[ids]), len(body[urls]))
            body[ids], body[urls] = body[ids][:least], body[urls][:least]
