"""Evidence by numbers: hostile names, random archives, inner addresses, a source that fails at random, bad requests.

Each of the five prints its figures by `python -m tests.hostile [names|archives|guard|flaky|http]`, and
`tests/test_hostile.py` fails when one of them is not as it has to be. All chance is seeded, so that a run can be
repeated.

`nasty` makes names up, `windows` and `twins` judge names by other people's rules, `unpacking` has the readers unpack
many archives; `names` and `archives` use them. `addresses` and `grammar` spell inner addresses, `witness` sees what is
dialled, `guard` brings them together. `moody` is a source with moods, `flaky` a job that has to live with it. `heads`
makes requests up, `rawhttp` sends them.
"""
