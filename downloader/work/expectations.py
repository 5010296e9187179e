"""Is this the file that was asked for? Two rules, both on the first bytes.

**A page instead of a file** (a login, a warning, an expired link) fails as `html_instead_of_file`. What is expected
is said by the request's `contentType`, else by the first extension found in the explicit name, the URL and the
Content-Disposition. Without one, and where the extension is a page's or a script's, HTML is fine. Otherwise the file
counts as a page when it begins like one, or when it is declared as HTML and its bytes prove nothing else; only a text
file (.csv, .txt, ...) that a careless server declares as HTML passes if no tag is in it.

**A report instead of a file** (JSON or XML, as services answer when something went wrong) fails as `type_mismatch` when
the extension is that of a type whose files always begin with a signature, and no `contentType` says otherwise.

**Another type** than the request's `contentType` fails as `type_mismatch`: when the bytes prove another one, when they
ought to prove the expected one and do not, or when they prove nothing and the source itself declares another one.
Containers count as what they hold (a .docx is a ZIP), and spellings of one type are equal.
"""

from __future__ import annotations

import re

from downloader.errors import SourceError
from downloader.jobs import Source
from downloader.names import url_name
from downloader.work import sniff
from downloader.work.pages import begins_like_a_page, begins_like_a_report

_EXTENSION = re.compile(r"\.([a-z0-9]{1,16})$")
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# Pages, scripts that may answer with anything, and sources that hold HTML by nature.
_MAY_BE_HTML = frozenset(
    "html htm xhtml xht shtml mhtml mht hta php phtml php3 php4 php5 asp aspx ashx jsp jspx cgi do action cfm pl dll "
    "vue svelte ejs hbs erb tpl tmpl twig jinja j2 mustache liquid njk xml xsl xslt".split()
)
_TEXT = frozenset("csv tsv txt text json jsonl ndjson geojson md rst log yaml yml toml ini sql js css srt vtt".split())
_GENERIC = frozenset(
    "application/octet-stream binary/octet-stream application/x-download application/download "
    "application/force-download application/unknown text/plain".split()
)
_SPELLINGS = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "image/svg": "image/svg+xml",
    "application/x-pdf": "application/pdf",
    "application/x-zip": "application/zip",
    "application/x-zip-compressed": "application/zip",
    "application/x-gzip": "application/gzip",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-rar": "application/vnd.rar",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "text/xml": "application/xml",
    "text/json": "application/json",
    "application/csv": "text/csv",
    "text/rtf": "application/rtf",
    "video/x-matroska": "video/webm",
    "audio/webm": "video/webm",
    "application/x-sqlite3": "application/vnd.sqlite3",
}
# What the bytes prove -> the beginnings of the types that it may hold.
_CONTAINERS = {
    "application/zip": ("application/vnd.", "application/epub+zip", "application/java-archive", "application/x-"),
    "application/x-ole-storage": ("application/msword", "application/vnd.ms-", "application/x-ms", "application/x-ole"),
    "application/gzip": ("application/x-tar", "application/x-gtar", "application/x-tgz", "application/x-compress"),
    "application/ogg": ("audio/", "video/"),
    "video/mp4": ("video/", "audio/", "image/"),
    "image/heif": ("image/",),
    "image/heic": ("image/",),
    "audio/mp4": ("video/", "audio/"),
    "image/tiff": ("image/",),
    "application/x-elf": ("application/x-",),
}
# What an SVG counts as too, though these words say less about it.
_SVG_IS_ALSO = _HTML_TYPES | {"application/xml"}
# Types whose files always begin with their signature.
_ALWAYS_PROVEN = frozenset(
    {"application/pdf", "image/png", "image/jpeg", "image/gif", "image/webp", "application/zip", "application/gzip",
     "application/x-7z-compressed", "application/vnd.rar"}
)  # fmt: skip


# Extensions of files that always begin with a signature of `sniff`.
_SIGNED = frozenset(
    "pdf png jpg jpeg gif webp zip docx xlsx pptx odt ods odp epub jar apk gz tgz 7z rar bz2 xz zst doc xls ppt msi "
    "tif tiff psd flac ogg oga ogv opus mp4 m4a m4v mov webm mkv wav avi avif heic woff woff2 sqlite parquet".split()
)


def normal_type(text: str | None) -> str | None:
    """A media type without parameters, in lower case and in its one spelling."""
    if text is None:
        return None
    bare = text.partition(";")[0].strip().lower()
    return _SPELLINGS.get(bare, bare)


def expected_extension(source: Source, filename: str | None) -> str | None:
    """The first extension, in lower case, of the explicit name, the URL's and the Content-Disposition's."""
    for name in (source.name, url_name(source.url), filename):
        match = _EXTENSION.search((name or "").strip().lower())
        if match and not match[1].isdigit():
            return match[1]
    return None


def check_no_page(source: Source, filename: str | None, declared: str | None, proven: str | None, start: bytes) -> None:
    """Raise `html_instead_of_file` when a page came where a file was asked for."""
    if proven not in (None, sniff.HTML):
        return
    # The bytes come first: they acquit nearly every file before its names have to be taken apart.
    is_declared = declared in _HTML_TYPES
    if proven is None and not is_declared and not begins_like_a_page(start):
        return
    extension = expected_extension(source, filename)
    if source.content_type is not None:
        is_expected = normal_type(source.content_type) in _HTML_TYPES
    else:
        is_expected = extension is None or extension in _MAY_BE_HTML
    # Text may begin with a tag, and be declared as HTML.
    is_page = proven == sniff.HTML or extension not in _TEXT or (is_declared and sniff.has_markup(start))
    if not is_expected and is_page:
        raise SourceError("html_instead_of_file", "the source sent a web page instead of the file")


def check_no_report(source: Source, filename: str | None, proven: str | None, start: bytes) -> None:
    """Raise `type_mismatch` when JSON or XML came, as services report errors, where the name promises a signature."""
    if proven is not None or source.content_type is not None or not begins_like_a_report(start):
        return
    extension = expected_extension(source, filename)
    if extension in _SIGNED:
        raise SourceError(
            "type_mismatch", f"the source sent a text, perhaps an error report, instead of a .{extension}"
        )


def check_type(expected: str | None, declared: str | None, proven: str | None, *, is_empty: bool) -> None:
    """Raise `type_mismatch` when the file is not of the type that the request names."""
    wanted, said = normal_type(expected), normal_type(declared)
    if wanted is None or wanted in _GENERIC:
        return
    is_hollow = is_empty and wanted in _ALWAYS_PROVEN  # whatever its source calls it
    if not is_hollow and (_is_compatible(wanted, proven, said) or (proven == sniff.SVG and wanted in _SVG_IS_ALSO)):
        return
    found = "empty" if is_hollow else f"of type {(proven or said or 'unknown')[:80]}"
    raise SourceError("type_mismatch", f"the file is {found} instead of {wanted[:80]}")


def _is_compatible(wanted: str, proven: str | None, said: str | None) -> bool:
    if proven is not None:
        same_xhtml = proven == sniff.HTML and wanted in _HTML_TYPES
        return same_xhtml or normal_type(proven) == wanted or wanted.startswith(_CONTAINERS.get(proven, ("\0",)))
    if said == wanted:
        return True
    if said is None or said in _GENERIC:
        return wanted not in _ALWAYS_PROVEN
    return _family(said) is not None and _family(said) == _family(wanted)


def _family(kind: str) -> str | None:
    """Text types that servers use for one another."""
    for mark in ("xml", "json", "javascript"):
        if kind.endswith(mark):
            return mark
    return "text" if kind.startswith("text/") and kind not in _HTML_TYPES else None


def best_type(declared: str | None, proven: str | None) -> str | None:
    """The type to tell people: what the bytes prove, unless the declared one is a closer word for the same."""
    said = normal_type(declared)
    if proven is None:
        return declared
    return declared if said and said not in _GENERIC and _is_compatible(said, proven, said) else proven
