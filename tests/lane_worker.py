"""A process that works on all lanes of a stored plan, several at once, to be killed in tests.

``python -m tests.lane_worker LAKE JOB`` prints the lanes' reports as JSON, one a line.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from transforms import registry
from transforms.lake import Lake
from transforms.replay import Plan, replay_lane
from transforms.replay.pacing import pacer_of
from transforms.replay.plans import lane_url, load_plan

_AT_ONCE = 3


def work(lake: Lake, plan: Plan, lane: int) -> str:
    url = lane_url(plan, lane)
    publisher = registry.broker(url).open_publisher(url, {}, name=f"{plan.job}-{lane}")
    try:
        report = replay_lane(plan, lane, [lake], publisher, pacer=pacer_of(lake, plan.job))
    finally:
        publisher.close()
    return json.dumps(report.to_dict())


def main(url: str, job: str) -> None:
    lake = Lake(url)
    plan = load_plan(lake, job)
    with ThreadPoolExecutor(_AT_ONCE) as lanes:
        for report in lanes.map(lambda lane: work(lake, plan, lane), sorted(plan.lanes)):
            print(report)


if __name__ == "__main__":
    main(*sys.argv[1:])
