"""The command plan: stores what a resubmission would do, so that exactly that can run later."""

from __future__ import annotations

from contextlib import closing

from pipelines.connections import look_up, open_index, open_lakes, patiently
from pipelines.job_rows import new_job, store
from pipelines.settings.replay import PlanSettings
from transforms.job_row import Row
from transforms.jobs.keeper import Keeper
from transforms.jobs.leases import held_by, new_owner
from transforms.jobs.rows import UNLIMITED, options_of, planned, selection_of
from transforms.jobs.states import cancel
from transforms.replay import Plan, make_plan

__all__ = ["run"]


def run(settings: PlanSettings) -> Plan:
    """Plan a resubmission, and store it as a job in state PLANNED; nothing is sent.

    Raises:
        ConfigurationError: a setting is not valid.
        TransientError: index, lake or broker did not answer for a minute.
    """
    destination, lakes, owner = look_up(settings), open_lakes(settings), new_owner()
    with closing(open_index(settings)) as index:
        row = store(index, held_by(new_job(settings, "PLANNED", UNLIMITED), owner), "plan")
        with Keeper(index, lakes[0], row["id"], owner=owner, on_lost=lambda: None) as keeper:
            plan = patiently(
                lambda: make_plan(
                    index,
                    lakes,
                    selection_of(row),
                    url=settings.destination or "",
                    destination=destination,
                    options=options_of(row),
                    job=row["id"],
                ),
                "plan",
            )
            keeper.give_back(lambda row: _made(row, plan))
    return plan


def _made(row: Row, plan: Plan) -> Row:
    made: Row = {**planned(row, plan), "lease": None}
    return cancel(made) if made["state"] == "CANCELLING" else made
