"""The program as a client of the service: it calls the API, follows a job, and saves the archive.

It knows the words and the wire, nothing of the inside: a service on this machine and one behind a proxy are the same to
it. The demo watches its job with the same parts.

server.py   where a service is, with which key, and which job a text means
lists.py    the list of files: from arguments, a file or standard input
target.py   where the archive goes: never over another file, and what an interrupted command left behind
run.py      the order of events of each command
calls.py    one call of the API; `answers.py` says what its answers are made of
follow.py   a job to its end: by its events, which `stream.py` reads, or by asking when no events come through
save.py     the archive to its place, going on where a transfer broke off; `verify.py` looks into it
views.py    what is shown meanwhile: `bars.py` to a terminal, else lines, or JSON for scripts
table.py    the caller's jobs as a table
printing.py one line onto standard output or standard error
text.py     texts and figures as a terminal may show them
"""
