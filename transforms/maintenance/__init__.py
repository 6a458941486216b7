"""Maintenance of a lake: retention, and rebuilding the index."""
