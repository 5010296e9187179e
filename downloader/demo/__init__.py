"""The demo: the whole service on real parts, a dozen sources of which two are broken, and a check of the archive.

run.py      the order of events
origin.py   serves the files of files.py on loopback, some of them badly
follow.py   a client: posts the job and follows its event stream
show.py     what the terminal shows meanwhile
check.py    downloads the archive by its link and looks at every file in it
"""

from __future__ import annotations

from downloader.demo.run import run_demo

__all__ = ["run_demo"]
