"""The page of a calibration: the answer first, then what it rests on."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edge_sdk.calibration import report_plots as plots
from edge_sdk.calibration import report_words as say
from edge_sdk.calibration.outcome import Candidate, GroupRow, Outcome
from edge_sdk.calibration.report_pictures import Example, differences, drawn
from edge_sdk.report import words
from edge_sdk.report.page import Column, Page, Shown, Tile

_MOST_LINES = 20
_MOST_MISPLACED = 8
_MOST_PAIRS = 12
_LONGEST = 90  # characters of a group's name; the tables of the run have all
_READ = (
    (
        "A latency ratio is the time of a file over that of the optimized float file, both run in turns in one "
        "session: 0.9 takes a tenth less. The optimized float is the model after the rewrites that the engine likes, "
        "still in the high precision everywhere: a gain over it is owed to the low precision alone."
    ),
    (
        "A drop is the float model's accuracy less that of the file, on the same photos: above 0 is worse. Its "
        "interval holds what these photos leave open; the true drop lies outside such an interval 1 time of 20."
    ),
    (
        "Damage is what a change does to the detections, from 0, none, to 1, nothing left of them, held against the "
        "float model's own. It needs no labels and shows before the first box is lost, so the search goes by it; what "
        "is picked is decided by the accuracy above."
    ),
    (
        "Predicted is what the models of cost and damage say; measured is a file that was built, run and scored on "
        "photos that took no part in the search."
    ),
)


def calibration_page(outcome: Outcome, examples: Sequence[Example] = (), classes: Sequence[str] = ()) -> Page:
    """The page of what the planner found.

    Args:
        outcome: What it found.
        examples: Photos with detections of the float model and of the pick; see `report_pictures.telling`.
        classes: Names by class id, for the boxes.
    """
    page = Page(
        f"{words.plain(outcome.model)} for {words.plain(outcome.target)}",
        f"Which layer runs in which precision: planned for {words.plain(outcome.engine)}, {words.plain(outcome.cpu)}.",
    )
    _answer(page, outcome)
    _front(page, outcome)
    _candidates(page, outcome)
    _predictions(page, outcome)
    _groups(page, outcome)
    _interactions(page, outcome)
    _next(page, outcome)
    _examples(page, outcome, examples, classes)
    _model(page, outcome)
    _photos(page, outcome)
    _provenance(page, outcome)
    page.section("How to read this")
    page.text(*_READ)
    return page


def _answer(page: Page, outcome: Outcome) -> None:
    pick = outcome.pick
    kind, word = ("ok", "The pick.") if pick.met else ("warning", "Budget not met.")
    if pick.met and outcome.picked.kind in ("float", "high"):
        kind = "note"
    page.notice(kind, say.headline(outcome), pick.why, word=word)  # type: ignore[arg-type]
    warnings = say.warnings(outcome)
    if warnings:
        page.notice("warning", "What makes the answer less sure:", warnings)
    page.tiles(_tiles(outcome))


def _tiles(outcome: Outcome) -> list[Tile]:
    one = outcome.picked
    low = say.low_name(outcome)
    tiles = []
    if one.latency is None:
        tiles.append(Tile("latency ratio", words.NONE, "", "not timed"))
    else:
        value, _, ends = say.ratio(one.latency).partition(" ")
        how = say.ESTIMATED if one.latency.method == "estimated" else one.latency.method
        ends = ends.replace(say.ESTIMATED, "").strip(" ()")
        tiles.append(Tile("latency ratio", value, "", f"{ends}; {how}" if ends else how))
        tiles.append(Tile("latency, median", words.number(one.latency.ms), "ms", f"{how}, {outcome.target}"))
    if one.accuracy is None:
        tiles.append(Tile("accuracy", words.NONE, "", "not scored"))
    else:
        value, _, ends = say.drop(one.accuracy).partition(" ")
        detail = ends.strip("()") or ("no interval" if say.interval(one.accuracy) is None else "")
        tiles.append(Tile(f"drop of {outcome.metric}", value, "", detail))
        before = words.number(one.accuracy.map + one.accuracy.drop, 4)
        tiles.append(Tile(outcome.metric, say.score(one.accuracy), "", f"float {before}"))
    given = next((other for other in outcome.candidates if other.kind == "float"), None)
    size = "" if given is None else f"as given {_mib(given.size_bytes)} MiB"
    tiles.append(Tile("file", _mib(one.size_bytes), "MiB", size))
    tiles.append(
        Tile(f"multiply-adds in {low}", f"{100 * one.low_macs:.0f}", "%",
             f"{say.in_low(outcome)} of {words.count(len(outcome.groups), 'group')}")
    )  # fmt: skip
    if one.energy_mj is not None:
        tiles.append(Tile("energy per inference", words.number(one.energy_mj), "mJ"))
    return tiles


def _front(page: Page, outcome: Outcome) -> None:
    page.section("Front: time against accuracy")
    drawing = plots.front(outcome)
    if drawing is None:
        page.text("No candidate was both timed and scored, and no front was predicted: there is nothing to draw.")
    else:
        page.plot(drawing)
    asked = say.budgets(outcome)
    if asked:
        page.facts(("What was asked for", asked))


def _candidates(page: Page, outcome: Outcome) -> None:
    page.section("Candidates")
    low = say.low_name(outcome)
    energy = any(one.energy_mj is not None for one in outcome.candidates)
    cost = f" {say.ESTIMATED}" if say.predicted_by(outcome) == "estimated" else ""
    columns: list[Column | str] = [
        "candidate",
        Column(f"predicted ratio{cost}", numeric=True),
        Column("latency ratio", numeric=True),
        Column("predicted drop", numeric=True),
        Column(f"drop of {outcome.metric}", numeric=True),
        Column("file MiB", numeric=True),
        Column(f"% of multiply-adds in {low}", numeric=True),
        Column("layers not as planned", numeric=True),
    ]
    if energy:
        columns.append(Column("energy mJ", numeric=True))
    page.table(
        columns,
        [
            [
                Shown(one.name, one.name, "the pick" if one.name == outcome.pick.name else ""),
                _small(one.predicted_ratio), _latency(one), Shown(say.amount(one.predicted_drop), one.predicted_drop),
                _accuracy(outcome, one), Shown(_mib(one.size_bytes), one.size_bytes),
                Shown(f"{100 * one.low_macs:.0f}", one.low_macs), len(one.misplaced), *([one.energy_mj] * energy),
            ]
            for one in outcome.candidates
        ],
        "Every file that was built, the simple answers first",
    )  # fmt: skip
    for one in outcome.candidates:
        if one.misplaced:
            page.notice(
                "warning",
                f"Layers of {words.plain(one.name)} that do not run as planned:",
                _some(one.misplaced, _MOST_MISPLACED),
            )


def _latency(one: Candidate) -> Shown:
    if one.latency is None:
        return Shown(words.NONE, None, "not timed")
    how = say.ESTIMATED if one.latency.method == "estimated" else one.latency.method
    text = say.ratio(one.latency).replace(f" {say.ESTIMATED}", "")
    return Shown(text, one.latency.ratio, f"{words.number(one.latency.ms)} ms, {how}")


def _accuracy(outcome: Outcome, one: Candidate) -> Shown:
    if one.accuracy is None:
        return Shown(words.NONE, None, "not scored")
    return Shown(say.drop(one.accuracy), one.accuracy.drop, f"{outcome.metric} {say.score(one.accuracy)}")


def _predictions(page: Page, outcome: Outcome) -> None:
    page.section("Predicted against measured")
    lines = say.agreement_lines(outcome)
    drawings = [one for one in (plots.latencies(outcome), plots.drops(outcome)) if one is not None]
    if not lines:
        page.text("No candidate was both predicted and measured.")
    else:
        kept = say.agreement(outcome).kept
        page.notice("ok" if kept else "warning", lines[0], lines[1:], word="As promised." if kept else "Further off.")
    if drawings:
        page.plot(*drawings)


def _next(page: Page, outcome: Outcome) -> None:
    faster, better = say.next_swaps(outcome)
    page.section("What the next swap would gain")
    if not faster and not better:
        page.text("No swap of a single group is predicted to gain time or accuracy.")
        return
    page.text(
        "Turning over one more group, as the models predict it; a change of latency below a thousandth and of accuracy "
        "below 0.0002 is less than they can tell."
    )
    for what, rows in (("Most time for least accuracy", faster), ("Most accuracy for least time", better)):
        if rows:
            page.table(
                [
                    "group",
                    "to",
                    Column(f"latency ratio{_cost_mark(outcome)}", numeric=True),
                    Column("drop", numeric=True),
                ],
                [[say.short(row.group.name), say.other(row), *_swap(row)] for row in rows],
                what,
                sortable=False,
            )


def _swap(row: GroupRow) -> tuple[Shown, Shown]:
    if row.swap is None:
        return Shown(words.NONE), Shown(words.NONE)
    return Shown(say.signed(row.swap[0]), row.swap[0]), Shown(say.signed(row.swap[1]), row.swap[1])


def _examples(page: Page, outcome: Outcome, examples: Sequence[Example], classes: Sequence[str]) -> None:
    page.section("Photos before and after")
    if not examples:
        page.text("This page was drawn without the photos: they are not part of the figures' file.")
        return
    page.text(
        "Each photo first with the float model's boxes, then with the pick's; those scored 0.25 and more. The photos "
        "that differ most come first, then typical ones."
    )
    for one in examples:
        said = differences(one, classes)
        page.pictures(
            (drawn(one.image, one.before, classes), f"{one.name} with the float model's boxes", f"{one.name}, float"),
            (drawn(one.image, one.after, classes), f"{one.name} with the pick's boxes: {said}",
             f"{outcome.pick.name}{f' ({one.why})' if one.why else ''}: {said}"),
        )  # fmt: skip


def _groups(page: Page, outcome: Outcome) -> None:
    page.section("Groups: damage against time")
    drawing = plots.sensitivity(outcome)
    if drawing is not None:
        page.plot(drawing)
    low = say.low_name(outcome)
    cost = _cost_mark(outcome)
    page.table(
        [
            "group", Column("nodes", numeric=True), "precision", Column("million multiply-adds", numeric=True),
            Column(f"damage alone in {low}", numeric=True), Column(f"damage without {low} here", numeric=True),
            Column(f"saved ms{cost}", numeric=True), Column(f"swapped: latency ratio{cost}", numeric=True),
            Column("swapped: drop", numeric=True),
        ],
        [
            [
                Shown(words.shortened(words.plain(row.group.name), _LONGEST), row.group.name), len(row.group.nodes),
                _precision(row), row.macs / 1e6, row.alone, row.without, _small(row.gain_ms), *_swap(row),
            ]
            for row in outcome.groups
        ],
        f"{words.count(len(outcome.groups), 'group')} in the order of the computation; what is in a group switches "
        "together",
    )  # fmt: skip
    page.text(
        f"Damage alone: this group in {low}, all others in float. Damage without: what goes when this group alone "
        f"leaves {low}. Saved ms: by {low}, the changes of precision at its bounds left out; below 0 it costs."
    )


def _precision(row: GroupRow) -> Shown:
    below = "pinned" if row.pinned else words.plain(row.group.reason or "")
    return Shown(row.precision.upper(), row.precision, below)


def _interactions(page: Page, outcome: Outcome) -> None:
    page.section("Interactions")
    page.text(say.r2_line(outcome))
    drawing = plots.interactions(outcome)
    if drawing is not None:
        page.plot(drawing)
    if outcome.pairs:
        page.table(
            ["group", "with", Column("damage beyond the sum", numeric=True)],
            [
                [say.short(a), say.short(b), Shown(say.signed(value), value)]
                for a, b, value in outcome.pairs[:_MOST_PAIRS]
            ],
            f"The strongest of {words.count(len(outcome.pairs), 'pair')}",
        )


def _model(page: Page, outcome: Outcome) -> None:
    if not (outcome.notes or outcome.repairs or outcome.range_methods or outcome.cost):
        return
    page.section("The model")
    if outcome.notes:
        page.notice("note", "What was done to it:", outcome.notes, word="Prepared.")
    if outcome.repairs:
        page.notice("note", "Repairs of weights that were tried:", outcome.repairs, word="Repairs.")
    page.facts(
        ("How ranges were chosen", {
            words.plain(name): words.count(many, "tensor") for name, many in outcome.range_methods.items()
        }),
        ("How latency is predicted", {
            **{words.key(str(name)): words.fact(value) for name, value in outcome.cost.items()}, **_boundaries(outcome),
        }),
    )  # fmt: skip


def _boundaries(outcome: Outcome) -> dict[str, str]:
    if not outcome.boundary_ms:
        return {}
    mark = _cost_mark(outcome)
    down, up = (statistics.median(pair[place] for pair in outcome.boundary_ms.values()) for place in (0, 1))
    dearest = max(outcome.boundary_ms, key=lambda name: (sum(outcome.boundary_ms[name]), name))
    both = f"{words.number(down)} ms to {say.low_name(outcome)}, {words.number(up)} ms back"
    most = words.number(sum(outcome.boundary_ms[dearest]))
    return {
        f"change of precision, median{mark}": both,
        f"dearest change{mark}": f"{say.short(dearest)}, {most} ms both ways",
    }


def _photos(page: Page, outcome: Outcome) -> None:
    found = outcome.photos
    if not found:
        return
    page.section("Photos")
    sides = Counter(str(one.get("side")) for one in _listed(found.get("chosen")) if isinstance(one, Mapping))
    out = Counter[str]()
    for one in _listed(found.get("left_out")):
        if isinstance(one, Mapping):
            many = one.get("count", 1)
            out[str(one.get("cause"))] += many if isinstance(many, int) else 1
    domain = found.get("domain")
    domain = domain if isinstance(domain, Mapping) else {}
    named = ("source", "layout", "found", "looked_at", "usable", "groups")
    page.facts(
        ("The set", {
            **{words.key(name): words.fact(found[name]) for name in named if name in found},
            "scored by": say.score_basis(outcome), **{f"for {side}": str(many) for side, many in sides.items()},
            **{f"left out: {cause}": str(many) for cause, many in sorted(out.items())},
        }),
        ("What it holds", {words.key(str(name)): _holds(value) for name, value in domain.items()}),
    )  # fmt: skip


def _holds(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == {"least", "median", "most"}:
        return f"{words.fact(value['median'])} ({words.fact(value['least'])} to {words.fact(value['most'])})"
    if isinstance(value, Mapping) and len(value) > _MOST_LINES:
        first = dict(list(value.items())[:_MOST_LINES])
        return f"{words.fact(first)} and {len(value) - _MOST_LINES} more"
    return words.fact(value)


def _provenance(page: Page, outcome: Outcome) -> None:
    page.section("Where it comes from")
    page.facts(
        ("Plan", {
            "target": outcome.target, "engine": outcome.engine, "machine": outcome.cpu, "seed": str(outcome.seed),
            "masks probed": f"{outcome.probes:,}", "prepared model": outcome.plan.prepared_sha256,
            "file of the pick": outcome.picked.sha256,
            **{words.key(name): words.plain(value) for name, value in outcome.plan.provenance.items()},
        }),
        ("Wall time", {
            **{words.key(name): f"{words.number(value)} s" for name, value in outcome.seconds.items()},
            **({"all": f"{words.number(sum(outcome.seconds.values()))} s"} if outcome.seconds else {}),
        }),
    )  # fmt: skip


def _cost_mark(outcome: Outcome) -> str:
    return f" {say.ESTIMATED}" if say.predicted_by(outcome) == "estimated" else ""


def _mib(size: int) -> str:
    return f"{size / 2**20:.2f}" if math.isfinite(size) else words.NONE


def _small(value: float | None) -> Shown:
    """A figure to three decimals, or three digits where it is large."""
    if value is None or not math.isfinite(value):
        return Shown(words.NONE)
    return Shown(words.number(value) if abs(value) >= 10 else f"{value:.3f}", value)


def _some(lines: Sequence[str], most: int) -> list[str]:
    more = len(lines) - most
    return [*lines[:most], *([f"and {more} more"] if more > 0 else [])]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()
