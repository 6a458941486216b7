"""What follows the end of a job, wherever it is noticed."""

from __future__ import annotations

from resubmit_api.jobs.webhook import Webhook
from resubmit_api.metrics import Metrics
from transforms.job_row import Row
from transforms.jobs.rows import ENDED

__all__ = ["Ends"]


class Ends:
    """Counts ended jobs and has them reported; thread-safe."""

    def __init__(self, metrics: Metrics, webhook: Webhook | None) -> None:
        """Count in ``metrics``, and report to ``webhook``."""
        self.metrics, self._webhook = metrics, webhook

    def ended(self, row: Row) -> None:
        """Note the end of a job that was worked on, once."""
        self.metrics.finished(row)
        self.report(row)

    def report(self, row: Row) -> None:
        """Report a job if it has ended."""
        if self._webhook is not None and row["state"] in ENDED:
            self._webhook.put(row)

    def run(self) -> None:
        """Send the reports that are due. Raises ``TransientError`` if the index does not answer."""
        if self._webhook is not None:
            self._webhook.run()
