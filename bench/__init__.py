"""How fast it is, measured on real servers. ``python -m bench`` writes ``bench/RESULTS.md``."""
