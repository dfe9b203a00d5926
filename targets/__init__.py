"""What boards are: facts with sources, and how a machine is recognised as one of them.

    from edge_sdk import targets

    targets.load("raspberry-pi-5").precisions["onnxruntime"]     # ('int8', 'fp16', 'fp32')
    targets.identify().target.name                               # this machine

A board is a table in <family>/boards.toml and a family is a folder; both are found by being there. Nothing here
measures, runs or imports an engine.
"""

from __future__ import annotations

from edge_sdk.targets.evidence import Confidence
from edge_sdk.targets.identify import Identity, here, identify
from edge_sdk.targets.tables import families, get, load, load_all, names, parse
from edge_sdk.targets.target import Fact, Flash, Kind, Match, Precision, Rail, Rate, RatePrecision, Source, Target

__all__ = [
    "Confidence",
    "Fact",
    "Flash",
    "Identity",
    "Kind",
    "Match",
    "Precision",
    "Rail",
    "Rate",
    "RatePrecision",
    "Source",
    "Target",
    "families",
    "get",
    "here",
    "identify",
    "load",
    "load_all",
    "names",
    "parse",
]
