"""``make demo``: a real broker, persist, index and API on this machine, and a resubmission that is verified.

It does what a user does: it starts the commands, sends HTTP requests and checks the results. Only
``traffic`` depends on the broker.
"""
