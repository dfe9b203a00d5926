"""What a watch sees, on a screen: as much as fits the terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby, pairwise
from textwrap import wrap

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from edge_sdk.measure.watch import Snapshot
from edge_sdk.measure.watch_words import duration, gaps_of, joules, method_words, value_of, watts
from edge_sdk.result import Reading

# So many moments are kept for the chart: ten minutes at one a second.
HISTORY = 600
_WIDE, _THREE = 66, 108  # from so many columns on, lists stand in two, and in three columns
_GAP = 3  # between two columns
_SPACED = 20  # from so many lines on, there is a blank one before the reasons
_CHART_ROWS = 12  # at most
_LEAST_LIST = 3  # with so many lines or fewer there is no list
_LEAST_FOR_CHART = 8  # and with fewer than these no chart: what it shows is less
_MOST_NAMES = 3  # before a reason
_NOTE_LINES = 2  # of a reason; and of what the power contains, where there are _TALL lines or more
_TALL = 30
_LABEL = 11  # columns of a label

_Moment = tuple[float | None, bool]  # the power, and whether the board was throttled

_EIGHTHS_UP, _EIGHTHS_ACROSS = " ▁▂▃▄▅▆▇█", " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Head:
    """What does not change while a board is watched.

    Args:
        board: Its name for people.
        covers: What the total contains, in words.
        outputs: Where else the figures go, in a few words each.
        interval_s: Between two moments.
    """

    board: str
    covers: str | None
    outputs: tuple[str, ...]
    interval_s: float


class View:
    """The screen; Rich asks it anew for each drawing, so that it fits a terminal that changes its size.

    Args:
        head: What stays.
        snapshot: The first moment.
    """

    def __init__(self, head: Head, snapshot: Snapshot) -> None:
        self._head = head
        self._snapshot = snapshot
        self._past: deque[_Moment] = deque(maxlen=HISTORY)
        self._taken = 0

    def show(self, snapshot: Snapshot) -> None:
        """Takes the next moment."""
        self._snapshot = snapshot
        self._past.append((snapshot.total.value, bool(snapshot.conditions.throttling)))
        self._taken += 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The screen as lines, each cut to the terminal's width, and no more than it has."""
        width, height = options.max_width, options.size.height
        lines = list(self._lines(width, height, plain=options.ascii_only))
        yield Text("\n", end="").join(_cut(line, width, plain=options.ascii_only) for line in lines[:height])

    def _lines(self, width: int, height: int, *, plain: bool) -> Iterator[Text]:
        now = self._snapshot
        columns = 3 if width >= _THREE else 2 if width >= _WIDE else 1
        lists = _lists(now, columns, plain=plain)
        wanted = max(map(_height, lists)) + 1
        above = [self._title(width, plain=plain), *self._power(width, height)]
        below = [*_since(now), _throttling(now)]
        absent = self._absent(width, height)
        bottom = [*([Text(), *absent] if absent and height >= _SPACED else absent), self._foot()]
        left = height - len(above) - len(below) - len(bottom)
        chart: list[Text] = []
        if left >= _LEAST_FOR_CHART and any(power for power, _ in self._past):
            rows = max(2, min(_CHART_ROWS, left - wanted))
            chart = list(self._chart(width, rows, plain=plain))
        yield from (*above, *chart, *below)
        room = left - len(chart)
        if room > _LEAST_LIST:
            yield Text()
            yield from _side_by_side(lists, width, room - 1, plain=plain)
        yield from bottom

    def _title(self, width: int, *, plain: bool) -> Text:
        now = self._snapshot
        mode = now.conditions.power_mode
        right = f"{mode.name if mode is not None else ''}  {duration(now.seconds)}".strip()
        left = _cut(Text(self._head.board, style="bold"), max(8, width - len(right) - 2), plain=plain)
        left.append(" " * max(2, width - left.cell_len - len(right)))
        return left.append(right)

    def _power(self, width: int, height: int) -> Iterator[Text]:
        total = self._snapshot.total
        if total.value is None:
            line = Text("Power".ljust(_LABEL)).append("no value", style="bold yellow")
            note = _why_no_total(self._snapshot)
        else:
            line = Text("Power".ljust(_LABEL)).append(f"{watts(total.value)} W", style="bold")
            line.append(f"  {method_words(total.method)}")
            note = (total.method != "sensor_partial" and self._head.covers) or total.reason or ""
        if note and line.cell_len + len(note) + 2 <= width:
            yield line.append(f"  {note}", style="dim")
            return
        yield line
        across = max(20, width - _LABEL)
        known = total.value is not None
        most = 1 if known and height < _TALL else _NOTE_LINES
        for part in wrap(note, across, max_lines=most, placeholder=" ..."):
            yield Text(" " * _LABEL).append(part, style="dim" if known else "yellow")

    def _chart(self, width: int, rows: int, *, plain: bool) -> Iterator[Text]:
        """Power over the last minutes from 0 up: each column is a mean, and empty where there was no value.

        It is red where the board was throttled.
        """
        columns = max(8, width - _LABEL - 1)
        step = 1
        while len(self._past) > step * columns:
            step *= 2
        means = _means(list(self._past), self._taken, step)[-columns:]
        top = max((mean for mean, _ in means if mean is not None), default=0.0)
        span = _span(min(len(means) * step, len(self._past)) * self._head.interval_s)
        for row in reversed(range(rows)):
            label = f"{watts(top)} W" if row == rows - 1 else span if row == 0 else ""
            line = Text(label.ljust(_LABEL), style="dim")
            for throttled, run in groupby(means, key=lambda one: one[1]):
                bars = "".join(_eighths(mean or 0.0, top, rows, row, plain=plain) for mean, _ in run)
                line.append(bars, style="not dim red" if throttled else "not dim cyan")
            yield line

    def _absent(self, width: int, height: int) -> list[Text]:
        """Why values are not there; as much as there is room for."""
        lines = [
            part
            for reason in _reasons(self._snapshot)
            for part in wrap(reason, max(20, width), max_lines=_NOTE_LINES, placeholder=" ...", subsequent_indent="  ")
        ]
        most = max(1, height // 6)
        if len(lines) > most:
            lines = [*lines[: most - 1], "... --json has every reason"]
        return [Text(line, style="dim") for line in lines]

    def _foot(self) -> Text:
        return Text("  ".join(("Ctrl-C ends", *self._head.outputs)), style="dim")


@dataclass(frozen=True)
class _Row:
    """A line of a list: a name, a value, and a share of the bar behind it."""

    name: str
    value: str
    share: float | None = None
    dim: bool = False


@dataclass
class _List:
    title: str
    rows: list[_Row] = field(default_factory=list)


def _lists(now: Snapshot, columns: int, *, plain: bool) -> list[list[_List]]:
    """The lists in their order, over so many columns that the longest is as short as can be."""
    degree = "C" if plain else "°C"
    warm = _List("Temperatures", [_Row(one.name, value_of(one, degree)) for one in now.conditions.temperatures])
    asked = any(one.reason for one in now.conditions.clocks if one.value is not None)
    clocks = _List("Clocks, * asked for" if asked else "Clocks", _clocks(now.conditions.clocks))
    every = [_rails(now), _loads(now), _memory(now), warm, clocks]
    lists = [one for one in every if one.rows]
    cuts = combinations(range(1, len(lists)), min(columns, len(lists)) - 1) if lists else iter([()])
    split = [[lists[a:b] for a, b in pairwise((0, *cut, len(lists)))] for cut in cuts]
    return min(split, key=lambda parts: max(map(_height, parts)))


def _height(lists: list[_List]) -> int:
    """Lines of the lists below each other, with a title each and a blank line between."""
    return sum(len(one.rows) + 2 for one in lists) - 1


def _rails(now: Snapshot) -> _List:
    values = [one.value for sensor in now.sensors for one in sensor.readings if one.value is not None]
    top = max(values, default=0.0)
    rows = [
        _Row(
            f"{'+' if in_total else ' '} {one.name}",
            "-" if one.value is None else f"{watts(one.value)} W",
            None if one.value is None or top <= 0 else one.value / top,
            not in_total,
        )
        for sensor in now.sensors
        for one, in_total in zip(sensor.readings, sensor.in_total, strict=True)
    ]
    return _List("Rails, + in the total", rows)


def _loads(now: Snapshot) -> _List:
    return _List(
        "Load",
        [
            _Row(one.name, value_of(one), None if one.value is None else one.value / 100)
            for one in now.conditions.loads
        ],
    )  # fmt: skip


def _memory(now: Snapshot) -> _List:
    memory = now.conditions.memory
    if memory is None:
        return _List("Memory")
    used = memory.total_mib - memory.available_mib
    rows = [_Row("used", f"{used / 1024:.1f} GiB", used / memory.total_mib if memory.total_mib > 0 else None)]
    rows.append(_Row("swap", f"{memory.swap_used_mib / 1024:.1f} GiB"))
    return _List(f"Memory, {memory.total_mib / 1024:.1f} GiB", rows)


def _clocks(clocks: Sequence[Reading]) -> list[_Row]:
    """Clocks that are numbered and the same, such as those of a cluster's cores, in a row."""
    rows: list[_Row] = []
    run: list[Reading] = []
    for one in [*clocks, None]:
        if run and (one is None or not _follows(run[-1], one)):
            name = run[0].name if len(run) == 1 else f"{run[0].name}-{run[-1].name[len(_stem(run[0].name)) :]}"
            asked = "*" if run[0].value is not None and run[0].reason else ""
            rows.append(_Row(name + asked, value_of(run[0])))
            run = []
        if one is not None:
            run.append(one)
    return rows


def _follows(one: Reading, other: Reading) -> bool:
    stem = _stem(one.name)
    number, following = one.name[len(stem) :], other.name[len(stem) :]
    counted = _stem(other.name) == stem and number.isdecimal() and following.isdecimal()
    alike = (value_of(one), one.reason) == (value_of(other), other.reason)
    return counted and int(following) == int(number) + 1 and alike


def _stem(name: str) -> str:
    return name.rstrip("0123456789")


def _side_by_side(parts: list[list[_List]], width: int, room: int, *, plain: bool) -> Iterator[Text]:
    """The columns, cut to so many lines; where a list is cut it says how many rows are left out."""
    parts = [part for part in parts if part]
    if not parts:
        return
    across = (width - _GAP * (len(parts) - 1)) // len(parts)
    columns = [list(_column(part, across, room, plain=plain)) for part in parts]
    for row in range(min(room, max(map(len, columns)))):
        line = Text()
        for number, column in enumerate(columns):
            if row < len(column):
                line.append(" " * (number * (across + _GAP) - line.cell_len)).append_text(column[row])
        yield line


def _column(lists: list[_List], across: int, room: int, *, plain: bool) -> Iterator[Text]:
    spaced = _height(lists) <= room
    shares = _shares([len(one.rows) for one in lists], room - len(lists) - (len(lists) - 1 if spaced else 0))
    name_width = max((len(row.name) for one in lists for row in one.rows), default=0)
    value_width = max((len(row.value) for one in lists for row in one.rows), default=0)
    name_width = max(4, min(name_width, across - value_width - 1))
    bar = min(across - name_width - value_width - 2, 24)
    for number, (one, share) in enumerate(zip(lists, shares, strict=True)):
        if share == 0:
            continue
        if spaced and number:
            yield Text()
        yield _cut(Text(one.title, style="bold"), across, plain=plain)
        rows = one.rows if share == len(one.rows) else one.rows[: share - 1]
        for row in rows:
            line = _cut(Text(row.name), name_width, plain=plain)
            line.append(" " * (name_width - line.cell_len + 1)).append(row.value.rjust(value_width))
            if row.share is not None and bar >= 4:
                line.append(" ").append(_bar(row.share, bar, plain=plain), style="cyan")
            line.stylize("dim" if row.dim else "")
            yield line
        if len(rows) < len(one.rows):
            yield Text(f"{len(one.rows) - len(rows)} more", style="dim")


def _shares(wanted: list[int], room: int) -> list[int]:
    """How many lines each list gets: none more than it wants, the longest are cut first; those at the end go first."""
    shares = list(wanted)
    while sum(shares) > max(0, room):
        longest = max(range(len(shares)), key=lambda one: (shares[one], one))
        # A list of one line would only say that there is more: its title goes too, and gives another line of room.
        if shares[longest] <= 2:
            last = max(one for one, share in enumerate(shares) if share)
            shares[last], room = 0, room + 1
        else:
            shares[longest] -= 1
    return shares


def _since(now: Snapshot) -> Iterator[Text]:
    if now.energy_j is None:
        return
    line = Text("Energy".ljust(_LABEL)).append(joules(now.energy_j), style="bold")
    if now.mean_w is not None and now.min_w is not None and now.peak_w is not None:
        line.append(f"  mean {watts(now.mean_w)} W, lowest {watts(now.min_w)}, peak {watts(now.peak_w)}")
    if now.gaps:
        line.append(f"  {gaps_of(now.gaps)}", style="yellow")
    if now.energy_method == "sensor_partial" and now.total.method != "sensor_partial":
        line.append("  in part", style="yellow")
    yield line


def _throttling(now: Snapshot) -> Text:
    line = Text("Throttling".ljust(_LABEL))
    active, boot = now.conditions.throttling, now.conditions.throttled_since_boot
    if active is None:
        return line.append(now.conditions_reason or "this board does not tell", style="dim")
    if active:
        return line.append(f"NOW: {', '.join(active)}", style="bold red")
    line.append("none now", style="green")
    if now.throttled:
        line.append(f"; seen: {', '.join(now.throttled)}", style="red")
    elif boot:
        line.append(f"; since boot: {', '.join(boot)}", style="yellow")
    return line


def _reasons(now: Snapshot) -> Iterator[str]:
    """Why what has a place on the screen has no value: a line a reason; without what is said of the total already."""
    said = "" if now.total.value is not None else _why_no_total(now)
    conditions = now.conditions
    readings = [one for sensor in now.sensors for one in sensor.readings if not one.reason or one.reason not in said]
    names: dict[str, list[str]] = {}
    for one in (*readings, *conditions.temperatures, *conditions.clocks, *conditions.loads):
        if one.value is None:
            names.setdefault(one.reason or "no value", []).append(one.name)
    if now.conditions_reason is not None:
        names.setdefault(now.conditions_reason, []).append("conditions")
    elif conditions.power_mode is None and conditions.power_mode_reason is not None:
        names.setdefault(conditions.power_mode_reason, []).append("power mode")
    for reason, lacking in names.items():
        more = len(lacking) - _MOST_NAMES
        yield f"{', '.join(lacking[:_MOST_NAMES])}{f' and {more} more' if more > 0 else ''}: {reason}"


def _why_no_total(now: Snapshot) -> str:
    """Without the names of the rails, where it is the same for all of them."""
    for sensor in now.sensors:
        reasons = {one.reason for one, inside in zip(sensor.readings, sensor.in_total, strict=True) if inside}
        if len(reasons) == 1 and (reason := reasons.pop()):
            return reason
    return now.total.reason or "no reason is known"


def _means(past: list[_Moment], taken: int, step: int) -> list[_Moment]:
    """Means over `step` moments each; where one begins does not move as new ones come."""
    start = (taken - len(past)) % step
    cuts = [0, *range(step - start if start else step, len(past), step), len(past)]
    means: list[_Moment] = []
    for first, last in pairwise(cuts):
        present = [power for power, _ in past[first:last] if power is not None]
        throttled = any(throttled for _, throttled in past[first:last])
        means.append((sum(present) / len(present) if present else None, throttled))
    return means


def _eighths(value: float, top: float, rows: int, row: int, *, plain: bool) -> str:
    """What a bar of so many rows shows in one of them, the lowest being 0."""
    height = 0.0 if top <= 0 else value / top * rows - row
    if plain:
        return "#" if height >= 0.5 else " "
    least = 1 if value > 0 and row == 0 else 0
    return _EIGHTHS_UP[max(least, min(8, round(height * 8)))]


def _bar(share: float, width: int, *, plain: bool) -> str:
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if plain:
        return "#" * round(eighths / 8)
    return "█" * (eighths // 8) + (_EIGHTHS_ACROSS[eighths % 8] if eighths % 8 else "")


def _cut(text: Text, width: int, *, plain: bool) -> Text:
    text.truncate(width, overflow="crop" if plain else "ellipsis")
    return text


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
