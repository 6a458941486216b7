"""All code that runs on a worker, most of it without Beam."""
