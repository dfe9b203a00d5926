"""What is left of an interrupted run: the samples in its ring file, and nothing that could be called a result."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.measure.record import ChannelTrack
from edge_sdk.measure.trace import Trace
from edge_sdk.measure.tracks import channel_tracks
from edge_sdk.report import words
from edge_sdk.report.page import Column, Page, Shown
from edge_sdk.report.profile_page import power_plot

NOTICE = (
    "An interrupted run: samples only. There are no windows and no inferences in them, and so no energy per inference."
)


def ring_page(name: str, traces: Sequence[Trace]) -> Page:
    """The page of a ring file.

    Args:
        name: Of the file.
        traces: As `edge_sdk.measure.ring.read` gives them.
    """
    page = Page(f"Samples of an interrupted run: {words.plain(name)}")
    page.notice("warning", NOTICE)
    found = tracks(traces)
    page.section("Power")
    drawn = power_plot(found, (), max((one.at_s[-1] for one in found if one.at_s), default=0.0))
    if drawn is None:
        page.text("No channel has a value.")
    else:
        page.plot(drawn)
    titles = ("samples", "seconds", "mean W", "max W")
    page.table(
        ["sensor", "channel", "method", *(Column(title, numeric=True) for title in titles)],
        [
            [words.plain(one.sensor), words.plain(one.name), one.method, *_figures(one)] for one in found
        ],
        "Channels",
    )  # fmt: skip
    return page


def summary(name: str, traces: Sequence[Trace]) -> str:
    """The same for the terminal."""
    lines = [f"{words.plain(name)}: {NOTICE}"]
    for one in tracks(traces):
        samples, seconds, mean, most = (cell.text for cell in _figures(one))
        lines.append(
            f"  {words.plain(one.sensor)}, {words.plain(one.name)} ({one.method}): {samples} samples over {seconds} s, "
            f"mean {mean} W, max {most} W"
        )
    return "\n".join(lines)


def tracks(traces: Sequence[Trace]) -> tuple[ChannelTrack, ...]:
    """Traces in watts, seconds counted from the first sample of all."""
    return channel_tracks(traces, min((int(trace.at_ns[0]) for trace in traces if len(trace.at_ns)), default=0))


def _figures(track: ChannelTrack) -> tuple[Shown, Shown, Shown, Shown]:
    values = [value for value in track.power_w if value is not None]
    seconds = track.at_s[-1] - track.at_s[0] if track.at_s else 0.0
    mean, most = (sum(values) / len(values), max(values)) if values else (None, None)
    return (
        Shown(f"{len(values):,}", len(values)), Shown(words.number(seconds), seconds),
        Shown(words.number(mean), mean), Shown(words.number(most), most),
    )  # fmt: skip
