"""The Grafana dashboard that ships with the SDK."""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).with_name("grafana_dashboard.json")
"""The dashboard: import it in Grafana, or let Grafana provision it."""


def text() -> str:
    """The dashboard as JSON, as Grafana imports it."""
    return PATH.read_text(encoding="utf-8")
