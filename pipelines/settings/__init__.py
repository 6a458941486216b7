"""The settings of each command: typed, validated, picklable. Secrets are unresolved references.

``streaming``, ``replay`` and ``maintenance`` here and ``resubmit_api.settings`` declare them; ``parsing``
reads them from the command line and a YAML file, and ``checks`` says what is wrong with them.
"""
