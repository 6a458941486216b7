"""The commands: their settings, Beam pipelines and terminal output."""
