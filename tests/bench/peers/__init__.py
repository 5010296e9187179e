"""The service against what people would use instead, and against the limit: `python -m tests.bench peers`."""
