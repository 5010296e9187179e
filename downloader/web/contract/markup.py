"""The HTML of the documentation pages: everything is escaped, nothing is asked of other servers, no script runs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

_STYLE = (resources.files("downloader.web") / "page" / "docs.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def escaped(text: object) -> str:
    """Text that may stand anywhere in a page, in attributes too."""
    return html.escape(str(text))


def page(title: str, body: str) -> str:
    """A whole page around `body`, which is HTML."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def inline(text: str) -> str:
    """Prose as HTML: what stands between backticks is code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escaped(text))


def prose(text: str) -> str:
    """Paragraphs, which empty lines separate."""
    return "\n".join(f"<p>{inline(part)}</p>" for part in text.split("\n\n"))


def code(text: str) -> str:
    """A block of text as it is; it can be scrolled by keyboard."""
    return f'<pre tabindex="0">{escaped(text)}</pre>'


def indented(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def link(target: str, text: str) -> str:
    """A link whose text is code."""
    return f'<a href="{escaped(target)}"><code>{escaped(text)}</code></a>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are HTML. Nothing when it has no rows."""
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return ""
    head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in heads)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def details(summary: str, body: str, *, is_open: bool = False) -> str:
    """Something to open; `body` is HTML."""
    mark = " open" if is_open else ""
    return f"<details{mark}><summary>{inline(summary)}</summary>\n{body}\n</details>"
