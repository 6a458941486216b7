"""Helpers of Beam bundles: overlapping writes, an outbox, coders."""
