"""The failpoint matrix: a service is killed at every `await` on a job's path, and the next one must put it right.

Nothing of it is in the product. In a test process only, an import hook rewrites the modules on a job's path so that
each await tells of itself, and the one that is armed ends the process with SIGKILL. What there is to hit is read from
the source, what a job comes by is found by one recorded run; no list is kept by hand.

Read in this order: `points` (which awaits there are, and how they are rewritten), `hook` (what happens at them),
`zygote` (a process that has loaded the service and forks one for each run), `origin` and `shapes` (the jobs),
`stage` (the neighbours and the processes of a run), `rules` (what must be true afterwards), `runs` (one run),
`matrix` (all of them). `python -m tests.failpoints --help` runs it.
"""
