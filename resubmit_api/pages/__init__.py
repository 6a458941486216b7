"""The web pages: their templates, forms and view functions."""
