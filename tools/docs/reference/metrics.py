# SPDX-License-Identifier: GPL-3.0-or-later
"""metrics.md: what `/metrics` of the private port offers, from the collector itself over figures of an empty venue."""

import types
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec
from prometheus_client import Metric

from clearing.service.config import AlertConfig
from clearing.service.ops import alerts
from clearing.service.ops.alerts import Alert
from clearing.service.ops.figures import Figures, InstrumentFigures, PublisherFigures, VaultFigures
from clearing.service.ops.meter import Meter
from clearing.service.ops.metrics import NovateCollector
from tools.docs.reference.text import code, documentation, page, table

_SUFFIXES: Final = {"counter": "_total", "info": "_info"}


def pages() -> dict[str, str]:
    """metrics.md."""
    collector = NovateCollector(_figures, Meter(), lambda: [Alert("", "", "")])
    rows = [_row(family) for family in collector.collect()]
    return {
        "metrics.md": page(
            "Metrics",
            "Served at `/metrics` of the private port (default `127.0.0.1:8641`) in Prometheus' format. Base units: "
            "seconds and bytes; money in atoms, gas in wei. A value that is not known has no sample. `process_*` are "
            "of the process itself. Dashboard, alert rules and a configuration are in [docs/ops](../ops/README.md).",
            table(("metric", "type", "labels", "meaning"), rows),
            "## Alerts\n\nThe operator judges by these names itself, and docs/ops/alerts.yml by the same over the "
            "metrics. Their limits are [configured](configuration.md#alerts).\n\n"
            + "\n".join(f"- `{name}`" for name in alerts.NAMES)
            + f"\n\n{documentation(AlertConfig)}",
        )
    }


def _row(family: Metric) -> tuple[str, str, str, str]:
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    names = ", ".join(code(name) for name in labels)
    return code(family.name + _SUFFIXES.get(family.type, "")), family.type, names, family.documentation


def _figures() -> Figures:
    """Figures with one of everything, so that each family shows its labels."""
    one: Figures = _blank(Figures)
    return msgspec.structs.replace(
        one,
        vaults=[msgspec.structs.replace(_blank(VaultFigures), connected=True)],
        publishers=[_blank(PublisherFigures)],
        instruments=[_blank(InstrumentFigures)],
    )


def _blank(kind: Any) -> Any:
    """A struct of nothings: zeros, empty texts and lists."""
    hints = get_type_hints(kind)
    return kind(**{name: _nothing(hints[name]) for name in kind.__struct_fields__})


def _nothing(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _nothing(next(part for part in get_args(hint) if part is not type(None)))
    return (origin or hint)()
