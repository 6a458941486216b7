"""What the help of each command says besides its settings."""

from __future__ import annotations

__all__ = ["EPILOGS", "GROUPS", "SUMMARIES"]


SUMMARIES: dict[str, str] = {
    "persist": "archive every message of topics in a lake, while they arrive",
    "index": "keep the index of what persist archived elsewhere, from its metadata topic",
    "plan": "find out what a resubmission would send, and keep just that to be sent later",
    "resubmit": "send archived messages again, unchanged, to any topic",
    "jobs": "list resubmissions, those of the API too, watch one, or pause, resume, cancel or retry it",
    "rebuild": "make the index anew from the lake alone",
    "expire": "delete what is older than a date: from the index, then from the lake",
    "api": "serve plans, resubmissions and search over HTTP",
    "token": "make a token for the API",
    "doctor": "try what a command's settings name, and say what to fix",
}
"""What each command does."""


GROUPS = {
    "broker": "broker",
    "lake": "lake",
    "index": "index",
    "batches": "batches: closed by whichever is reached first",
    "failures": "failures",
    "running": "running",
    "access": "access",
}
"""The groups of settings in their order, and their titles."""


EPILOGS: dict[str, str] = {
    "persist": """examples:
  persistor persist --source kafka://localhost:9092/orders,payments --lake s3://archive/kafka \\
                    --index mongodb://localhost/persistor
  persistor persist --config persist.yaml --processes 4
  persistor persist --config persist.yaml --runner=FlinkRunner --flink_master=http://flink:8081 \\
                    --environment_type=EXTERNAL --environment_config=localhost:50000

Any option of Apache Beam is accepted as well.
Stop with Ctrl-C or SIGTERM: open batches are written first.
Exit code: 0 stopped, 1 a failure at work, 2 something to correct in the settings.""",
    "index": """example:
  persistor index --metadata kafka://localhost:9092/persistor-metadata --index mongodb://localhost/persistor

Any option of Apache Beam is accepted as well.
Exit code: 0 stopped, 1 a failure at work, 2 something to correct in the settings.""",
    "plan": """example:
  persistor plan --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                 --destination kafka://localhost:9092/orders-replay \\
                 --selection '{"sources": ["orders"], "published_from": "-1h"}'

What it prints as job is the plan's id: persistor resubmit --plan JOB sends just that.
Exit code: 0 it may run, 2 something speaks against it.""",
    "resubmit": """examples:
  persistor resubmit --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                     --destination kafka://localhost:9092/orders-replay \\
                     --selection '{"sources": ["orders"], "published_from": "2026-11-01T00:00:00Z"}'
  persistor resubmit --config resubmit.yaml --selection @selection.json --messages_per_second 500
  persistor resubmit --config resubmit.yaml --plan JOB
  persistor resubmit --config resubmit.yaml --resume JOB

Exit code: 0 all sent, 1 something was not sent (the report says what), 2 the request cannot be carried out.
Any option of Apache Beam is accepted as well.""",
    "jobs": """examples:
  persistor jobs --index mongodb://localhost/persistor --state RUNNING --state PAUSED
  persistor jobs --index mongodb://localhost/persistor --job JOB --follow
  persistor jobs --index mongodb://localhost/persistor --job JOB --action pause
  persistor jobs --index mongodb://localhost/persistor --job JOB --action rate --messages_per_second 500

Exit code: 0 done, 1 the job that was followed did not send all, 2 its state does not allow that.""",
    "rebuild": """example:
  persistor rebuild --lake s3://archive/kafka --index mongodb://localhost/persistor

Exit code: 0 done, 1 some files or rows are damaged (the report says which), 2 it cannot be done as asked.""",
    "expire": """examples:
  persistor expire --lake s3://archive/kafka --index mongodb://localhost/persistor --before 2026-01-01
  persistor expire --config expire.yaml --before 400d --source orders --yes

A file that also holds newer messages is kept whole until all of them are old enough.
Exit code: 0 done, 1 damaged files stay, or lake or index stayed away, 2 it cannot be done as asked.""",
    "api": """example:
  persistor api --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                --destination replay=kafka://localhost:9092

Exit code: 0 stopped, 1 a failure at work, 2 something to correct in the settings.""",
    "token": """example:
  persistor token --name alice --role operator --allow_source 'orders*' >> tokens.yaml

The token is shown once, on the terminal; what is written to the file is a digest, of no use to a thief.
A line that is taken out of the file is a token that no longer opens anything, from the next request on.""",
}
"""What stands below a command's help."""
