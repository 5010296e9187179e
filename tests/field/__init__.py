"""What really happens out there, case by case, at the front door: `python -m tests.field`.

Each case of the collection (A: archives, B: fetching, C: addresses, D: the store, E: jobs) has a few variants. A
`Given` is one file whose source behaves in a certain way; all of a case go into one job, together with a good file
that must come out right. A `Story` is whatever needs more than that. Both say what is expected and, after the job has
run on a real service, what was got.

    case.py           the values: Case, Given, Story, Row; how they are run
    bench.py          the neighbours and the services, and a job seen from outside
    answers.py        sources that misbehave
    host.py           the addresses that are used, and names for them
    system/           the stand-in for the system's resolver, on the services' path
    certificates.py, throttle.py, judging.py   what some stories need
    archives, names                                                           A
    bodies, resuming, redirects, statuses, connections, contents              B
    addresses                                                                 C
    store                                                                     D
    jobs                                                                      E, and B02
    naming, framing, further, calls     relatives of all of these, as B03.2 is of B03, and E02: bad requests
    cases.py          all of them in order
    __main__.py       the table
"""
