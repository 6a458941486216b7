"""The documents: the site, and the commands that they show, run against real servers."""
