"""``make demo``: a real broker, persist, index and API on this machine, and a resubmission that is compared.

It lives here because it does what a user does: it starts the commands, sends HTTP requests and looks
at the results. Only ``traffic`` knows the broker.
"""
