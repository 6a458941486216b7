"""Where a job runs: in this process, in several, or on Flink; and the signals that end it."""
