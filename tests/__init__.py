"""The tests: through the front door, with real neighbours."""
