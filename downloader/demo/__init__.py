"""The demo: the whole service on real parts, a dozen sources of which two are broken, and a check of the archive.

run.py      the order of events
origin.py   serves the files of files.py on loopback, some of them badly
check.py    downloads the archive by its link and looks at every file in it

The job is posted, followed and shown by `client/`.
"""

from __future__ import annotations

from downloader.demo.run import run_demo

__all__ = ["run_demo"]
