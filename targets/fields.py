"""Reads one value of a board table at a time, and refuses what it does not understand.

A reader is given the value, the file's sources and its place, and returns the typed value. It never guesses: a
wrong type, an unknown key or a number without a source is an error that says where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast, get_args

from edge_sdk.errors import TargetError
from edge_sdk.targets.target import Fact, Flash, Kind, Match, Precision, Rail, Rate, RatePrecision, Source

BACKENDS = ("tensorrt", "qnn", "onnxruntime", "tflite")
"""The names that a table may use for a backend."""

FACTS: Mapping[str, type] = MappingProxyType(
    {
        "memory_mib": int,
        "memory_bandwidth_gb_s": float,
        "compute_capability": str,
        "cpu": str,
        "cpu_count": int,
        "cpu_fp16_arithmetic": bool,
        "cpu_int8_dotprod": bool,
        "gpu": str,
        "hexagon": str,
        "vtcm_mib": int,
        "dla_count": int,
        "power_modes_w": tuple,
        "power_covers": str,
    }
)
"""The names that a fact may have, and the type of its value; the unit stands in the name."""

_UNSTATED = "unstated"


class Place:
    """Where in a table a value stands, so that an error can say it."""

    def __init__(self, file: str, board: str | None = None, key: str | None = None) -> None:
        self.file, self.board, self.key = file, board, key

    def at(self, key: str) -> Place:
        """The place of something inside this one."""
        return Place(self.file, self.board, f"{self.key}.{key}" if self.key else key)

    def error(self, what: str) -> TargetError:
        """An error that names the file, the board, the key and what is wrong there."""
        board = f", board {self.board!r}" if self.board else ""
        key = f", {self.key}" if self.key else ""
        return TargetError(" ".join(f"{self.file}{board}{key}: {what}".split()))


def table_of(value: object, place: Place) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise place.error(f"must be a table, not {value!r}")
    return value


def only(table: Mapping[str, Any], known: Iterable[str], place: Place) -> None:
    """Refuses a table that has any other key than these."""
    for key in table:
        if key not in known:
            raise place.at(key).error(f"nobody knows this key; it may be {', '.join(sorted(known))}")


def _required(table: Mapping[str, Any], keys: Iterable[str], place: Place) -> None:
    for key in keys:
        if key not in table:
            raise place.at(key).error("is missing")


def text_of(value: object, place: Place) -> str:
    """One line of text that is not blank."""
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise place.error(f"must be one line of text, not {value!r}")
    return value


def _bool(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.error(f"must be true or false, not {value!r}")
    return value


def _int(value: object, place: Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise place.error(f"must be a whole number, not {value!r}")
    return value


def _number(value: object, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise place.error(f"must be a number above 0, not {value!r}")
    return float(value)


def _list(value: object, place: Place) -> list[Any]:
    if not isinstance(value, list):
        raise place.error(f"must be a list, not {value!r}")
    return value


def _one_of(value: object, allowed: Iterable[str], place: Place) -> str:
    choices = tuple(allowed)
    if value not in choices:
        raise place.error(f"must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def texts_of(value: object, place: Place) -> tuple[str, ...]:
    """A list of texts, none of them twice."""
    found = tuple(text_of(item, place) for item in _list(value, place))
    if len(set(found)) != len(found):
        raise place.error(f"says something twice: {list(found)}")
    return found


def source_of(value: object, place: Place) -> Source:
    """One entry of [sources]."""
    table = table_of(value, place)
    only(table, {"text", "confirmed"}, place)
    _required(table, ("text", "confirmed"), place)
    return Source(text_of(table["text"], place.at("text")), _bool(table["confirmed"], place.at("confirmed")))


def _cited(table: Mapping[str, Any], sources: Mapping[str, Source], place: Place) -> Source:
    """The source that a number names; a number without one is refused."""
    _required(table, ("source",), place)
    key = text_of(table["source"], place.at("source"))
    if key not in sources:
        raise place.at("source").error(f"[sources] has no {key!r}")
    return sources[key]


def facts_of(value: object, sources: Mapping[str, Source], place: Place) -> dict[str, Fact]:
    """The facts of one table, each with its source."""
    table = table_of(value, place)
    only(table, FACTS, place)
    return {key: _fact(FACTS[key], body, sources, place.at(key)) for key, body in table.items()}


def _fact(kind: type, value: object, sources: Mapping[str, Source], place: Place) -> Fact:
    table = table_of(value, place)
    only(table, {"value", "source"}, place)
    _required(table, ("value",), place)
    raw, where = table["value"], place.at("value")
    if kind is tuple:
        return Fact(tuple(_number(item, where) for item in _list(raw, where)), _cited(table, sources, place))
    readers: Mapping[type, Callable[[object, Place], str | int | float | bool]] = {
        str: text_of,
        int: _int,
        float: _number,
        bool: _bool,
    }
    return Fact(readers[kind](raw, where), _cited(table, sources, place))


def _rates(value: object, sources: Mapping[str, Source], place: Place) -> tuple[Rate, ...]:
    rates = []
    for index, item in enumerate(_list(value, place)):
        here = place.at(str(index))
        table = table_of(item, here)
        only(table, {"value", "unit", "precision", "sparse", "condition", "source"}, here)
        _required(table, ("value", "unit", "precision", "sparse"), here)
        precision = _one_of(table["precision"], (*get_args(RatePrecision), _UNSTATED), here.at("precision"))
        sparse = None if table["sparse"] == _UNSTATED else _bool(table["sparse"], here.at("sparse"))
        rates.append(
            Rate(
                value=_number(table["value"], here.at("value")),
                unit=cast("Any", _one_of(table["unit"], ("TOPS", "TFLOPS"), here.at("unit"))),
                precision=None if precision == _UNSTATED else cast("RatePrecision", precision),
                sparse=sparse,
                condition=text_of(table["condition"], here.at("condition")) if "condition" in table else None,
                source=_cited(table, sources, here),
            )
        )
    return tuple(rates)


def _rails(value: object, _: Mapping[str, Source], place: Place) -> tuple[Rail, ...]:
    rails = []
    for index, item in enumerate(_list(value, place)):
        here = place.at(str(index))
        table = table_of(item, here)
        keys = ("name", "driver", "address", "in_total")
        only(table, keys, here)
        _required(table, keys, here)
        name, driver, address = (text_of(table[key], here.at(key)) for key in keys[:3])
        rails.append(Rail(name, driver, address, _bool(table["in_total"], here.at("in_total"))))
    if len({(rail.driver, rail.address) for rail in rails}) != len(rails):
        raise place.error("two rails have the same driver and address")
    return tuple(rails)


def _precisions(value: object, _: Mapping[str, Source], place: Place) -> dict[str, tuple[Precision, ...]]:
    table = table_of(value, place)
    only(table, BACKENDS, place)
    found = {}
    for backend, body in table.items():
        here = place.at(backend)
        levels = texts_of(body, here)
        if not levels:
            raise here.error("must name at least one precision")
        found[backend] = tuple(cast("Precision", _one_of(level, get_args(Precision), here)) for level in levels)
    return found


def _backends(value: object, _: Mapping[str, Source], place: Place) -> tuple[str, ...]:
    return tuple(_one_of(name, BACKENDS, place) for name in texts_of(value, place))


def _match(value: object, _: Mapping[str, Source], place: Place) -> Match:
    table = table_of(value, place)
    only(table, Match.__dataclass_fields__, place)
    found: dict[str, Any] = {}
    for key, body in table.items():
        here = place.at(key)
        numbers = key in ("soc_ids", "revision_types")
        found[key] = tuple(_int(item, here) for item in _list(body, here)) if numbers else texts_of(body, here)
    return Match(**found)


Reader = Callable[[object, Mapping[str, Source], Place], Any]
READERS: Mapping[str, Reader] = {
    "label": lambda value, _, place: text_of(value, place),
    "kind": lambda value, _, place: _one_of(value, get_args(Kind), place),
    "soc": lambda value, _, place: text_of(value, place),
    "kiosk": lambda value, _, place: text_of(value, place),
    "flash": lambda value, _, place: _one_of(value, get_args(Flash), place),
    "power_modes": lambda value, _, place: texts_of(value, place),
    "notes": lambda value, _, place: texts_of(value, place),
    "backends": _backends,
    "precisions": _precisions,
    "rails": _rails,
    "rates": _rates,
    "match": _match,
}
