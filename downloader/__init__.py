"""A service that collects files from many URLs and hands back one archive.

The map of the house, in the order a request meets its rooms. An import goes only down;
`tests/test_arrows.py` checks it.

    cli.py          `serve`, `config`, `doctor`, `reconcile`, `demo`: the way in for people
    commands.py     `keys`, `maintenance`, `redeliver`: for operators; `options.py` has the options they share
    fetch.py        `fetch`, `watch`, `jobs`, `retry`, `cancel`: for who wants files; `local.py`: a service for one
    settings.py     loads config.toml, environment and flags once, at the door
    logs.py         structlog, and the redaction of secrets
    lifetime.py     the life of the process: one event loop, signals, exit codes
    service.py      opens everything as a list and closes it in reverse
    doctor/         looks at settings, machine, Redis and store, and says what is wrong with them
    telemetry/      Prometheus metrics; OpenTelemetry traces when installed and wanted
    operate.py      API keys, maintenance mode, a callback once more: what an operator does to a service at work
    reconcile.py    compares the bucket with what is remembered, and mends it
    embedded/       a private Valkey and SeaweedFS for development, the demo and small set-ups
    demo/           sources of made-up files and one job, for people to watch
    client/         the program as a client of the service: calls, event stream, bars, the archive saved

    the words: pure, they import only each other
    errors.py       everything that can go wrong, as one tree
    config.py       the settings, one frozen section per consumer
    jobs.py         what is asked for, what became of it, the one table of states
    events.py       what subscribers hear
    callbacks.py    what becomes of the message to a `callbackUrl`
    observing.py    what the parts tell of their work, for who counts and who tells its story
    keys.py         what an API key looks like, and what is kept of it
    names.py        safe, unique names for the archive's entries
    s3url.py        `s3://bucket/key`
    wire.py         the JSON form of a file

    web/            a request comes in: `routes.py` lists the calls and `contract/` tells of them, `access.py` knows the
                    callers, `initiate.py` takes a job, `stream.py` tells of it
    state/          it is remembered in Redis: `store.py` for the web, `queue.py` for workers, `feed.py` for streams
    work/           it is worked on: `worker.py` owns attempts, `pipeline.py` makes the archive of one job out of
                    `fetch.py`, `inspection.py`, `cache.py`, `archive.py` and `storage.py`

The web never imports the work, nor the work the web; they meet in `state` and are tied together in `service.py`.
"""

__version__ = "0.1.0"
