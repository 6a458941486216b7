"""The help of each command besides its settings: summaries, groups, examples and exit codes."""

from __future__ import annotations

__all__ = ["EPILOGS", "GROUPS", "SUMMARIES"]


SUMMARIES: dict[str, str] = {
    "persist": "archive messages from a broker to an object store as they arrive",
    "index": "index messages archived by persist elsewhere, from its metadata topic",
    "search": "list archived messages by source, time, key and attributes; follow what arrives",
    "show": "print one message: its headers and payload, verified",
    "plan": "show what a resubmission would send, and store the plan to run it later",
    "resubmit": "send archived messages again, unchanged, to any topic",
    "jobs": "list and follow resubmissions, including the API's; pause, resume, cancel or retry one",
    "rebuild": "rebuild the index from the files in the lake",
    "expire": "delete messages older than a date from the index and the lake",
    "maintain": "fold the small objects of a lake into few large ones, from a timer",
    "cost": "show what a lake and its index cost a month, now and after maintain",
    "api": "serve search, plans and resubmissions over HTTP, with web pages",
    "token": "create a token for the API",
    "doctor": "check a command's settings and servers, and report what to fix",
    "completion": "print the script that completes commands and settings in bash, zsh or fish",
}
"""One-line summaries of the commands."""


GROUPS = {
    "selection": "selection (a message must match every part that is given)",
    "broker": "broker",
    "lake": "lake",
    "index": "index",
    "batches": "batches (the first limit reached closes a batch)",
    "failures": "failures",
    "running": "running",
    "access": "access",
}
"""The groups of settings in order, with their titles."""


EPILOGS: dict[str, str] = {
    "persist": """examples:
  persistor persist --source kafka://localhost:9092/orders,payments --lake s3://archive/kafka \\
                    --index mongodb://localhost/persistor
  persistor persist --config persist.yaml --processes 4
  persistor persist --config persist.yaml --runner=FlinkRunner --flink_master=http://flink:8081 \\
                    --environment_type=EXTERNAL --environment_config=localhost:50000

All options of Apache Beam are accepted too.
Stop with Ctrl-C or SIGTERM: open batches are written first.
Exit code: 0 stopped, 1 failed while running, 2 settings to correct.""",
    "index": """example:
  persistor index --metadata kafka://localhost:9092/persistor-metadata --index mongodb://localhost/persistor

All options of Apache Beam are accepted too.
Exit code: 0 stopped, 1 failed while running, 2 settings to correct.""",
    "search": """examples:
  persistor search --index mongodb://localhost/persistor --source orders --from -1h
  persistor search --config archive.yaml --where attributes.version=2 --where 'key^=customer-00' --json
  persistor search --config archive.yaml --source orders --follow

The oldest come first. --json prints one object a line. To print a whole message use persistor show; to send
what was found again, give plan or resubmit the same selection.
Exit code: 0 done or nothing found, 1 failed while running, 2 settings to correct.""",
    "show": """examples:
  persistor show orders_0_1205 --index mongodb://localhost/persistor --lake s3://archive/kafka
  persistor show orders_0_1205 --config archive.yaml --view hex
  persistor show orders_0_1205 --config archive.yaml --payload > message.bin

The message is read from the lake, and its id and checksum are compared with the index.
Exit code: 0 shown, 1 not found or damaged, 2 settings to correct.""",
    "plan": """example:
  persistor plan --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                 --destination kafka://localhost:9092/orders-replay --source orders --from -1h

The printed job is the plan's id. Next: persistor resubmit --plan JOB sends exactly this plan.
Exit code: 0 the plan can run, 2 the plan has problems or the settings are not valid.""",
    "resubmit": """examples:
  persistor resubmit --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                     --destination kafka://localhost:9092/orders-replay \\
                     --source orders --from 2026-11-01 --to 2026-11-02 --where attributes.version=2
  persistor resubmit --config resubmit.yaml --selection @selection.json --messages_per_second 500
  persistor resubmit --config resubmit.yaml --plan JOB
  persistor resubmit --config resubmit.yaml --resume JOB

Exit code: 0 all sent, 1 some messages were not sent (see the report), 2 the request cannot be carried out.
All options of Apache Beam are accepted too.""",
    "jobs": """examples:
  persistor jobs --index mongodb://localhost/persistor --state RUNNING --state PAUSED
  persistor jobs --index mongodb://localhost/persistor --job JOB --follow
  persistor jobs --index mongodb://localhost/persistor --job JOB --action pause
  persistor jobs --index mongodb://localhost/persistor --job JOB --action rate --messages_per_second 500

Exit code: 0 done, 1 the followed job did not send everything, 2 the job's state does not allow that.""",
    "rebuild": """example:
  persistor rebuild --lake s3://archive/kafka --index mongodb://localhost/persistor

Exit code: 0 done, 1 some files or rows are damaged (see the report), 2 settings to correct.""",
    "expire": """examples:
  persistor expire --lake s3://archive/kafka --index mongodb://localhost/persistor --before 2026-01-01
  persistor expire --config expire.yaml --before 400d --source orders --yes

A file with newer messages is kept until all of its messages are old enough.
Exit code: 0 done, 1 damaged files stay, or lake or index did not answer, 2 settings to correct.""",
    "maintain": """examples:
  persistor maintain --lake s3://archive/kafka
  persistor maintain --config maintain.yaml --age 7d

Run it daily. It may be killed at any point, and run beside everything else.
Exit code: 0 done, 1 the lake did not answer, 2 settings to correct.""",
    "cost": """examples:
  persistor cost --lake s3://archive/kafka
  persistor cost --lake s3://archive/kafka --prices prices.yaml --json

Exit code: 0 done, 1 the lake did not answer, 2 settings to correct.""",
    "api": """example:
  persistor api --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                --destination replay=kafka://localhost:9092

Exit code: 0 stopped, 1 failed while running, 2 settings to correct.""",
    "token": """example:
  persistor token --name alice --role operator --allow_source 'orders*' >> tokens.yaml

The token is shown once, on the terminal. The file receives only its digest, which does not open anything.
To revoke a token, remove its line from the file; this applies from the next request on.""",
    "completion": """examples:
  source <(persistor completion bash)
  persistor completion zsh >> ~/.zshrc
  persistor completion fish > ~/.config/fish/completions/persistor.fish

The first one completes in this shell only; write it into ~/.bashrc to have it in every new one.""",
}
"""The text below a command's settings in its help."""
