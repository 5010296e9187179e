"""Where a job is worked on: take, fetch, inspect, cache, pack, store. Knows no Redis and no HTTP server."""
