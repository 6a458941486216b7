"""The commands: settings, composition of the Beam pipelines, and what is shown."""
