"""Where a request comes in: the only place that knows aiohttp.web."""
