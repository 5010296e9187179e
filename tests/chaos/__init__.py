"""The chaos run: real replicas, a Valkey and a SeaweedFS under real clients, killed and cut off at random instants.

Read in this order: `plan` (how much of what), `workload` (the jobs and what must come of them), `sources` (where their
files come from), `history` (what is written down), `replicas` and `stage` (what is run), `clients` (who post and
follow), `monkey` (what is broken, and when), `leftovers` (what must be gone), `checker` (the rules, pure functions on
the history), `report` (the figures), `run` (one run from end to end).
"""
