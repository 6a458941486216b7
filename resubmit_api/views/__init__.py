"""The addresses of the service, one blueprint per subject."""
