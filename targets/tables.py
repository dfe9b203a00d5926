"""Reads the board tables: every folder here that has a boards.toml is a family.

`parse` turns texts into targets and knows nothing of files; `load_all` feeds it what is installed. A table that
is wrong in any way is refused as a whole, with the file, the board and the key: half a table would be a guess.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, cast

from edge_sdk.errors import TargetError, one_line
from edge_sdk.targets.fields import READERS, Place, facts_of, only, source_of, table_of, text_of, texts_of
from edge_sdk.targets.target import Fact, Kind, Match, Source, Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_BOARD_KEYS = frozenset({*READERS, "extends", "without", "facts"})
_NOT_INHERITED = frozenset({"label", "kind", "extends", "match"})


def load_all() -> Mapping[str, Target]:
    """Every installed target by name, read once.

    Raises:
        TargetError: A board table is malformed.
    """
    return _installed()


def load(name: str) -> Target:
    """The target of that name.

    Args:
        name: A name from `names()`, such as "raspberry-pi-5".

    Raises:
        TargetError: No board has that name; the message has the nearest ones.
    """
    found = get(name)
    if found is None:
        near = get_close_matches(str(name), names(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "'edge-sdk devices --boards' lists them"
        raise TargetError(f"no board is called {str(name)[:80]!r}; {hint}")
    return found


def get(name: str) -> Target | None:
    """The target of that name, or None.

    Raises:
        TargetError: A board table is malformed.
    """
    return load_all().get(name)


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """The names of all targets in alphabetical order, or of one kind only ("board", "soc", "family", "generic").

    Raises:
        TargetError: A board table is malformed.
    """
    return tuple(sorted(name for name, target in load_all().items() if kind in (None, target.kind)))


def families() -> tuple[str, ...]:
    """The folders of this package that have a boards.toml, in alphabetical order."""
    package = resources.files(__package__ or "edge_sdk.targets")
    return tuple(sorted(folder.name for folder in package.iterdir() if folder.joinpath("boards.toml").is_file()))


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, Target]:
    package = resources.files(__package__ or "edge_sdk.targets")
    files = {family: package.joinpath(family).joinpath("boards.toml") for family in families()}
    return parse({family: file.read_text(encoding="utf-8") for family, file in files.items()})


def parse(texts: Mapping[str, str]) -> Mapping[str, Target]:
    """Board tables from the texts of their files.

    Args:
        texts: TOML by family name. Names of boards are shared by all families, so one may extend another's.

    Returns:
        The targets by name.

    Raises:
        TargetError: Not TOML; a key nobody knows, or one of the wrong type; `extends` that names no table or
            goes in a circle; `without` that names nothing inherited; a number without a source; two tables that
            claim the same match string.
    """
    tables: dict[str, tuple[str, dict[str, Any], Mapping[str, Source]]] = {}
    for family, text in texts.items():
        place = Place(f"{family}/boards.toml")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise place.error(f"not TOML: {one_line(error)}") from error
        only(document, {"sources", "boards"}, place)
        sources = {
            key: source_of(value, place.at("sources").at(key))
            for key, value in table_of(document.get("sources", {}), place.at("sources")).items()
        }
        for name, body in table_of(document.get("boards", {}), place.at("boards")).items():
            here = Place(place.file, name)
            if not _NAME.fullmatch(name):
                raise here.error("a name is kebab-case: lower-case letters, digits and hyphens")
            if name in tables:
                raise here.error(f"this name is taken by {tables[name][0]}/boards.toml")
            only(table_of(body, here), _BOARD_KEYS, here)
            tables[name] = (family, body, sources)
    targets = {name: _target(name, tables) for name in tables}
    _refuse_shared_strings(targets.values())
    return MappingProxyType(targets)


def _lineage(name: str, tables: Mapping[str, tuple[str, dict[str, Any], Mapping[str, Source]]]) -> tuple[str, ...]:
    """The names that a table extends, nearest first."""
    chain = [name]
    while True:
        family, body, _ = tables[chain[-1]]
        place = Place(f"{family}/boards.toml", chain[-1]).at("extends")
        if "extends" not in body:
            return tuple(chain[1:])
        parent = text_of(body["extends"], place)
        if parent not in tables:
            raise place.error(f"no table is called {parent!r}")
        if parent in chain:
            raise place.error(f"goes in a circle: {' -> '.join([*chain, parent])}")
        chain.append(parent)


def _target(name: str, tables: Mapping[str, tuple[str, dict[str, Any], Mapping[str, Source]]]) -> Target:
    family = tables[name][0]
    lineage = _lineage(name, tables)
    values: dict[str, Any] = {}
    facts: dict[str, Fact] = {}
    for level in (*reversed(lineage), name):  # the farthest ancestor first: what is nearer replaces it
        level_family, level_body, sources = tables[level]
        place = Place(f"{level_family}/boards.toml", level)
        for key in texts_of(level_body.get("without", []), place.at("without")):
            if values.pop(key, None) is None and facts.pop(key, None) is None:
                raise place.at("without").error(f"{key!r} is not inherited, so it cannot be left out")
        facts |= facts_of(level_body.get("facts", {}), sources, place.at("facts"))
        for key, reader in READERS.items():
            if key in level_body and (level == name or key not in _NOT_INHERITED):
                values[key] = reader(level_body[key], sources, place.at(key))
    here = Place(f"{family}/boards.toml", name)
    if "label" not in values:
        raise here.error("needs a label, the board's name for people")
    backends, precisions = values.get("backends", ()), values.get("precisions", {})
    if set(backends) != set(precisions):
        raise here.error(f"backends {sorted(backends)} and precisions {sorted(precisions)} must name the same engines")
    memory = facts.get("memory_mib")
    return Target(
        name=name,
        family=family,
        label=values["label"],
        kind=values.get("kind", "board"),
        lineage=lineage,
        soc=values.get("soc"),
        memory_mib=cast("int", memory.value) if memory is not None else None,
        precisions=precisions,
        backends=backends,
        rails=values.get("rails", ()),
        power_modes=values.get("power_modes", ()),
        kiosk=values.get("kiosk"),
        flash=values.get("flash"),
        rates=values.get("rates", ()),
        facts=facts,
        notes=values.get("notes", ()),
        match=values.get("match", Match()),
    )


def _refuse_shared_strings(targets: Iterable[Target]) -> None:
    """Two tables with one match string would make the answer depend on their order."""
    owners: dict[tuple[str, str | int], str] = {}
    for target in targets:
        for key in Match.__dataclass_fields__:
            if key == "carriers":
                continue
            for value in getattr(target.match, key):
                owner = owners.setdefault((key, value), target.name)
                if owner != target.name:
                    place = Place(f"{target.family}/boards.toml", target.name).at("match").at(key)
                    raise place.error(f"{value!r} already means {owner!r}")
