"""The HTTP service: finds archived messages, shows them and sends them again. It never imports Beam."""
