"""Families of samples for a scrape, by the table of metrics, with a limit to the series of each."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from reconciler.model.resources import ResourceId
from reconciler.server.metric_table import MAX_NAMES, METRICS

MAX_SERIES = 5 * MAX_NAMES
"""Series of one metric: a name may occur with each of a few values of another label."""
Rows = Sequence[tuple[tuple[str, ...], float]]


class Families:
    """Makes families. ``dropped`` counts what the present scrape left out."""

    def __init__(self) -> None:
        self.dropped = 0

    def rows(self, name: str, rows: Rows) -> GaugeMetricFamily | CounterMetricFamily:
        """Return the family ``name`` of the table with ``rows`` (label values, figure)."""
        spec = METRICS[name]
        kind = CounterMetricFamily if spec.type == "counter" else GaugeMetricFamily
        family = kind(name, spec.help, labels=spec.labels)
        limit = MAX_NAMES if len(spec.labels) == 1 else MAX_SERIES
        self.dropped += max(0, len(rows) - limit)
        for values, figure in rows[:limit]:
            family.add_metric(values, float(figure))
        return family

    def single(self, name: str, figure: float) -> GaugeMetricFamily | CounterMetricFamily:
        """Return a family without labels."""
        return self.rows(name, [((), figure)])


def label_of(resource: ResourceId) -> str:
    """Return the name of a resource as a label."""
    return name_on_canvas(resource.name, resource.canvas)


def name_on_canvas(name: object, canvas: object) -> str:
    """Return ``name``, with ``@canvas`` unless it is the default: two series must not have equal labels."""
    return str(name) if canvas == "default" else f"{name}@{canvas}"


__all__ = ["Families", "label_of", "name_on_canvas"]
