"""Measurements that print figures. Nothing here is a test: machines are shared, so times are never asserted."""
