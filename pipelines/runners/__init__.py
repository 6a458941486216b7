"""Runs jobs in this process, in several processes, or on Flink; and handles the signals that end them."""
