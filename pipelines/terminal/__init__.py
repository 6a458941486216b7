"""The commands' terminal output."""
