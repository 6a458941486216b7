"""The HTTP service: find archived messages, look at them, send them again. Never imports Beam."""
