"""What is told of the calls that lead to archives and files."""

from __future__ import annotations

from downloader.web import shapes
from downloader.web.contract import examples
from downloader.web.contract.headers import RATES
from downloader.web.contract.jobs import JOB_ID
from downloader.web.contract.operation import Answer, Content, Operation, Parameter

_ENDED = ("job_not_found", "job_not_finished", "job_failed", "job_cancelled", "archive_expired")
_LED = ("Location", "Cache-Control", *RATES)

DOWNLOAD = Operation(
    "download",
    "Archives",
    "Download the archive",
    "Leads to the archive in the store by a link signed at this moment. The address of this call stays the same and "
    "may be kept; the link may not.",
    (Answer(302, "The archive is at `Location`.", headers=_LED),),
    (JOB_ID,),
    problems=_ENDED,
)
FILES = Operation(
    "listFiles",
    "Archives",
    "List a job's files",
    "The files in the order of the request, each with its digests, or with the reason why it is missing.",
    (
        Answer(
            200,
            "A page of files.",
            (Content(shapes.FilesPage, example=examples.FILES_PAGE),),
            ("Cache-Control", *RATES),
        ),
    ),
    (
        JOB_ID,
        Parameter(
            "limit",
            "query",
            "How many files a page has.",
            {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200},
            100,
        ),
        Parameter(
            "after",
            "query",
            "What the page before gave as `next`.",
            {"type": "integer", "minimum": 0, "maximum": 999_999_999},
        ),
    ),
    problems=("invalid_request", "job_not_found"),
)
KEPT_FILE = Operation(
    "downloadFile",
    "Archives",
    "Download one file",
    'Leads to one file of a job that was asked to keep them (`"options": {"keepFiles": true}`).',
    (Answer(302, "The file is at `Location`.", headers=_LED),),
    (
        JOB_ID,
        Parameter(
            "index",
            "path",
            "The file's place in the request, from 0.",
            {"type": "integer", "minimum": 0, "maximum": 999_999_999},
            0,
        ),
    ),
    problems=(*_ENDED, "not_found", "file_not_kept"),
)
