"""Sizes and durations in words, for terminal and pages."""

from __future__ import annotations

__all__ = ["TIME_UNITS", "human_bytes", "span"]

TIME_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
"""Units of durations, and their seconds; the largest first."""


def human_bytes(count: float) -> str:
    """A size with a decimal unit, in about three digits, such as ``3.2 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} PB"


def span(seconds: float) -> str:
    """A duration in its two largest units, such as ``2 h 5 min``."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else f"{seconds * 1_000_000:.0f} µs"
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    rest, parts = round(seconds), list[str]()
    for unit, size in TIME_UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"
