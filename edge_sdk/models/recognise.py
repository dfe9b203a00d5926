"""Which head reads this model, and its card: from a sidecar, from metadata, or by recognition."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from edge_sdk.backends.base import Session, TensorSpec, shape_text
from edge_sdk.errors import AmbiguousLayoutError, ModelError, UnknownLayoutError, UsageError
from edge_sdk.models.card import ModelCard, read_sidecar, sidecar_path
from edge_sdk.models.heads.base import Head, heads
from edge_sdk.models.metadata import card_fields

log = logging.getLogger("edge_sdk")


def recognise(
    session: Session, model: Path, *, head: str | None = None, card: ModelCard | Path | str | None = None
) -> tuple[Head, ModelCard]:
    """Settles how a model is fed and read.

    Args:
        session: The open model.
        model: Its file; a TOML of the same name beside it is its sidecar card.
        head: Name of a head, to settle it by hand.
        card: A whole card, or the path of a sidecar elsewhere.

    Raises:
        UsageError: There is no head of this name.
        UnknownLayoutError: No head recognises the outputs.
        AmbiguousLayoutError: Several do; the message lists them and the flag that settles it.
        ModelError: The card names a head that there is not, or contradicts the model.
    """
    if isinstance(card, ModelCard):
        chosen = _named(head or card.head)
        if chosen.recognise(session.inputs, session.outputs, session.metadata) is not None:
            _check_count(chosen, session, card.classes, "the model card")
        return chosen, replace(card, head=chosen.name)
    stated, where = _stated(session, model, card)
    wanted = head or stated.get("head")
    if head is None and wanted is not None and wanted not in heads():
        raise ModelError(f"{where}: {_no_head(wanted)}")
    candidates = [_named(wanted)] if wanted else list(heads().values())
    found = [
        (candidate, guess)
        for candidate in candidates
        if (guess := candidate.recognise(session.inputs, session.outputs, session.metadata)) is not None
    ]
    if len(found) > 1 and "classes" in stated:
        # The number of names tells apart layouts that differ by the objectness column.
        count = len(stated["classes"])
        found = [pair for pair in found if pair[0].class_count(session.outputs) in (None, count)] or found
    if len(found) > 1:
        raise AmbiguousLayoutError(
            f"{model.name}: the outputs {describe(session.outputs)} fit several layouts: "
            f"{'; '.join(f'{one.name} ({len(guess.classes)} classes)' for one, guess in found)}. "
            "Say which it was trained as with --head NAME (head='NAME')"
        )
    if not found:
        return _unrecognised(session, model, wanted, stated)
    chosen, guess = found[0]
    if "classes" in stated:
        _check_count(chosen, session, stated["classes"], where)
    if any(0 < abs(value) < 1 for value in stated.get("std", ())):
        log.warning(
            "%s: std %s looks like the 0..1 scale; a card is on 0..255, so multiply by 255", where, stated["std"]
        )
    return chosen, replace(guess, **{**stated, "head": chosen.name})


def _check_count(head: Head, session: Session, classes: Sequence[str], where: str) -> None:
    held = head.class_count(session.outputs)
    if held is not None and len(classes) != held:
        raise ModelError(
            f"{where}: names {len(classes)} classes, but the model's outputs hold {held}; "
            "list every class in the order of training"
        )


def _stated(session: Session, model: Path, card: Path | str | None) -> tuple[dict[str, Any], str]:
    """Card fields that somebody wrote down: metadata first, the sidecar's on top."""
    sidecar = Path(card) if card is not None else sidecar_path(model)
    fields_in_file = card_fields(session.metadata)
    if card is None and not sidecar.is_file():
        return fields_in_file, f"{model.name}'s metadata"
    return {**fields_in_file, **read_sidecar(sidecar)}, str(sidecar)


def _named(name: str) -> Head:
    if name not in heads():
        raise UsageError(_no_head(name))
    return heads()[name]


def _no_head(name: str) -> str:
    return f"there is no head {name!r}; there are {', '.join(sorted(heads()))}"


def _unrecognised(
    session: Session, model: Path, wanted: str | None, stated: Mapping[str, Any]
) -> tuple[Head, ModelCard]:
    needed = ("input_hw", "classes")
    if wanted is not None and all(key in stated for key in needed):
        return _named(wanted), ModelCard(**{**stated, "head": wanted})  # somebody wrote a whole card: they are believed
    outputs = describe(session.outputs)
    if wanted is not None:
        raise UnknownLayoutError(
            f"{model.name}: head {wanted!r} ({_named(wanted).title}) does not read the inputs "
            f"{describe(session.inputs)} and outputs {outputs}"
        )
    optional = ", ".join(field.name for field in fields(ModelCard))
    raise UnknownLayoutError(
        f"{model.name}: no head recognises the inputs {describe(session.inputs)} and outputs {outputs}; "
        f"name one with --head ({', '.join(sorted(heads()))}), or write a card {sidecar_path(model).name} ({optional})"
    )


def describe(specs: Sequence[TensorSpec]) -> str:
    """Names, types and shapes on one line: ``images float32 [1, 3, 416, 416]``."""
    shown = [f"{spec.name} {spec.dtype} {shape_text(spec.shape)}" for spec in specs[:6]]
    return ", ".join(shown) + (f" and {len(specs) - 6} more" if len(specs) > 6 else "")
