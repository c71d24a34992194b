"""The dashboard of `deploy/grafana`, and its queries as Grafana sends them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.prometheus import ROOT

FILE = ROOT / "deploy" / "grafana" / "reconciler.json"


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return dict(json.loads(FILE.read_text()))


def panels() -> list[dict[str, Any]]:
    """Return the panels with queries."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[dict[str, Any]]:
    for panel in panels():
        yield from panel["targets"]


def queries(job: str, instance: str = ".+") -> list[str]:
    """Return every query, with the variables replaced as Grafana does. A minute is its rate interval at a scrape interval of 15 s."""
    values = {"job": job, "instance": instance, "__rate_interval": "1m"}
    return [re.sub(r"\$(\w+)", lambda found: values[found[1]], target["expr"]) for target in targets()]
