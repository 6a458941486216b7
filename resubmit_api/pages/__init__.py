"""The pages: their templates, and what prepares what they show."""
