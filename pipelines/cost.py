"""The command cost: what a lake and its index cost a month."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipelines.settings.maintenance import CostSettings
from transforms.errors import ConfigurationError
from transforms.lake import Lake
from transforms.maintenance.cost import Cost, Prices, cost
from transforms.maintenance.figures import figures

__all__ = ["run"]

_PRICES = Path(__file__).with_name("prices.yaml")


def run(settings: CostSettings) -> Cost:
    """Figures of the lake at the prices of the file; see :func:`transforms.maintenance.cost.cost`.

    Raises:
        ConfigurationError: a setting is not valid, or the file of prices.
        TransientError: the lake did not answer.
    """
    prices = Prices.of(_listed(settings.prices), settings.lake.partition("://")[0])
    return cost(figures(Lake(settings.lake, settings.lake_config)), prices)


def _listed(file: str | None) -> dict[str, Any]:
    try:
        found = yaml.safe_load((Path(file) if file else _PRICES).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"`prices` {file}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"`prices` {file}: write it as pipelines/prices.yaml.")
    return found
