"""What is sent in place of a file: a page that says to log in, a report that says what went wrong.

Asked only where something else was expected, so it may be less certain than a proof of type.
"""

from __future__ import annotations

import re

from downloader.work.sniff import BEFORE_HTML, as_ascii, may_be_markup

LOOK_BYTES = 8192  # of blanks, comments and the beginning behind them
# WHATWG MIME Sniffing, 7.1, and the two other elements that pages begin with when they are nothing but a redirect.
_TAGS = rb"!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta|link|form|center"
_PAGE = re.compile(BEFORE_HTML + rb"<(?:" + _TAGS + rb")(?=[\s>/])", re.IGNORECASE | re.DOTALL)
# A JSON object or list with something in it, an XML declaration, or the error element of S3 and its relatives.
_REPORT = re.compile(
    rb"""\s*(?:\{\s*["}]|\[\s*[\[{"\]]|<\?xml\s|<[A-Za-z:]{0,40}(?:error|fault|problem|exception)\b)""", re.IGNORECASE
)


def begins_like_a_page(start: bytes) -> bool:
    """Whether the file begins with an element of HTML, behind blanks and comments."""
    return may_be_markup(start) and _PAGE.match(as_ascii(start, LOOK_BYTES)) is not None


def begins_like_a_report(start: bytes) -> bool:
    """Whether the file begins as JSON or XML does."""
    return may_be_markup(start) and _REPORT.match(as_ascii(start, LOOK_BYTES)) is not None
