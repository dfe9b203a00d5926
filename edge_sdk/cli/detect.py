"""``edge-sdk detect``: a camera, file, folder, glob or URL through a detector."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from edge_sdk.cli import ending, shared
from edge_sdk.errors import SourceError, UsageError

if TYPE_CHECKING:
    from edge_sdk.camera import Camera, Mode, Policy
    from edge_sdk.pipeline.books import Stats
    from edge_sdk.pipeline.supervisor import Reconnect
    from edge_sdk.result import Result
    from edge_sdk.sinks.base import Sink


def command(
    source: str = typer.Argument(
        None, help="A camera (0, /dev/video0, csi:0), photo, video, folder, glob, URL or demo."
    ),
    model: str = typer.Option(None, "--model", "-m", help=shared.MODEL_HELP),
    save: Path = typer.Option(None, "--save", help="Write what was drawn: a video (.mp4), a photo (.jpg) or a folder."),
    jsonl: str = typer.Option(
        None, "--jsonl", help="Write one JSON object a frame to this file; - is standard output."
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print one JSON object a frame, and at the end one with the totals."
    ),
    coco: Path = typer.Option(
        None,
        "--coco",
        help="Write COCO results of a folder of photos to this file; a run that was interrupted goes on.",
    ),
    show: bool = typer.Option(False, "--show", help="Show a live window; q closes it and ends the run."),
    http: str = typer.Option(
        None, "--http", help="Serve a page, MJPEG, results and /metrics at this address: 127.0.0.1:8080."
    ),
    http_token: str = typer.Option(
        None,
        "--http-token",
        envvar="EDGE_SDK_HTTP_TOKEN",
        help="What clients must show; needed beyond this machine (--http 0.0.0.0:8080).",
    ),
    mqtt: str = typer.Option(None, "--mqtt", help="Publish results to a broker: mqtt://host/prefix."),
    webhook: str = typer.Option(None, "--webhook", help="POST results with detections to this URL."),
    webhook_every: float = typer.Option(0.0, "--webhook-every", min=0.0, help="At most one POST in so many seconds."),
    rtsp: str = typer.Option(None, "--rtsp", help="Publish annotated video to an RTSP server: rtsp://host:8554/name."),
    blur_faces: bool = typer.Option(
        False,
        "--blur-faces",
        help="Hide faces in every output; with a model that finds none, add --face-model.",
    ),
    face_model: str = typer.Option(None, "--face-model", help="What finds the faces: a file or a zoo model."),
    frames: int = typer.Option(None, "--frames", min=1, help="Stop after this many results."),
    seconds: float = typer.Option(None, "--seconds", min=0.001, help="Stop after this long."),
    mode: str = typer.Option(
        None, "--mode", help="latency (live sources), throughput (files) or eco: the least work a frame."
    ),
    policy: str = typer.Option(
        "auto",
        "--policy",
        help="newest: drop frames that are not taken in time; every: wait. auto goes by the source.",
    ),
    reconnect: bool = typer.Option(
        True, "--reconnect/--no-reconnect", help="Open a live source that was lost again, or fail."
    ),
    give_up: float = typer.Option(
        None, "--give-up", min=0.001, help="Fail when a source stays away for so many seconds."
    ),
    track: bool = typer.Option(False, "--track", help="Give boxes ids from frame to frame."),
    zone: list[str] = typer.Option(
        None, "--zone", help="Count inside: 'queue=0.1,0.5 0.4,0.5 0.4,1 0.1,1'; may be repeated."
    ),
    line: list[str] = typer.Option(
        None, "--line", help="Count crossings, with --track: 'door=0.5,0 0.5,1'; may be repeated."
    ),
    sensor: str = typer.Option(
        None,
        "--sensor",
        metavar="DRIVER[:ADDRESS]",
        help="What measures power: a meter, such as shelly:192.168.1.20; left out: the board's own, where it has any.",
    ),
    power: bool = typer.Option(True, "--power/--no-power", help="Read power beside."),
    width: int = typer.Option(None, "--width", min=1, help="Ask a camera for this width."),
    height: int = typer.Option(None, "--height", min=1, help="Ask a camera for this height."),
    fps: float = typer.Option(None, "--fps", min=0.1, help="Ask a camera for this rate."),
    backend: str = shared.backend_option,
    confidence: float = shared.confidence_option,
    iou: float = shared.iou_option,
    classes: list[str] = shared.classes_option,
    threads: int = shared.threads_option,
    head: str = shared.head_option,
    card: Path = shared.card_option,
    option: list[str] = shared.option_option,
) -> None:
    """Detect objects; print, draw, stream and count what is found.

    Example: edge-sdk detect street.mp4 --model yolox_nano.onnx --save out.mp4
    """
    from edge_sdk.camera import Camera
    from edge_sdk.cli.outputs import Outputs, check_written, finish
    from edge_sdk.zones import parse_line, parse_zone

    streams = dict.fromkeys([*(["-"] if as_json else []), *([jsonl] if jsonl is not None else [])])
    outputs = Outputs(save, tuple(streams), coco, show, mqtt, webhook, webhook_every, rtsp, http, http_token)
    outputs.check([source, model])
    if face_model is not None and not blur_faces:
        raise UsageError("--face-model goes with --blur-faces")
    camera = Camera(
        source,
        model,
        mode=cast("Mode | None", mode),
        policy=cast("Policy", policy),
        reconnect=_reconnect(reconnect, give_up),
        track=track,
        zones=[parse_zone(text) for text in zone or ()],
        lines=[parse_line(text) for text in line or ()],
        blur_faces=face_model if face_model is not None else blur_faces,
        power=_power(power, sensor),
        backend=backend,
        confidence=confidence,
        iou=iou,
        classes=classes or None,
        threads=threads,
        head=head,
        card=card,
        options=shared.parse_options(option),
        width=width,
        height=height,
        fps=fps,
    )
    names = camera.detector.class_names
    sinks: list[Sink] = []
    began = time.monotonic()
    try:
        with camera:
            total = _expected(camera, frames)
            sinks = outputs.open(camera, total)
            # A bar and lines on one screen would write over each other.
            bar = shared.progress(camera.source.name, total, wanted=shared.output_is_a_file())
            with bar as advance, ending.gracefully(camera.stop):
                for result in camera.detect(frames=frames, seconds=seconds, sinks=sinks):
                    if "-" not in streams:
                        typer.echo(_line(result, names, camera.source.total and total))
                    advance(1)
    finally:
        if not camera.stats.sinks:  # the run never began, so nobody else closes them
            for sink in sinks:
                sink.close()
        # Also when somebody ends the run, which is how a camera's run ends, and when the source is lost.
        if camera.stats.captured:
            file_s = None if camera.source.live else time.monotonic() - began
            _summary(camera.stats, file_s, camera.power_reason if power else None)
            if save is not None and save.exists():
                typer.echo(f"written: {save}", err=True)
            if as_json:
                typer.echo(json.dumps({"stats": {**camera.stats.record(), "power_reason": camera.power_reason}}))
    stats = camera.stats
    check_written(sinks, camera)
    if camera.ended:
        finish(sinks)
    if stats.captured and not stats.processed and stats.dropped.get("decode_error"):
        raise SourceError(f"{camera.source.name}: not one of {stats.captured} pictures could be read")


def _power(wanted: bool, sensor: str | None) -> bool | str:
    if sensor is None:
        return wanted
    if not wanted:
        raise UsageError("--sensor says what to read, and --no-power to read nothing")
    return sensor


def _reconnect(wanted: bool, give_up_s: float | None) -> bool | Reconnect:
    from edge_sdk.pipeline.supervisor import Reconnect

    if give_up_s is None:
        return wanted
    if not wanted:
        raise UsageError("--give-up says how long to try again, and --no-reconnect not to")
    return Reconnect(give_up_s=give_up_s)


def _expected(camera: Camera, frames: int | None) -> int | None:
    total = camera.source.total
    return frames if total is None else total if frames is None else min(frames, total)


def _line(result: Result, names: tuple[str, ...], total: int | None) -> str:
    from edge_sdk.models.labels import name_of

    found = ", ".join(
        f"{name_of(names, one.class_id) or one.class_id}{'' if one.track_id is None else f' #{one.track_id}'} "
        f"{one.confidence:.2f}"
        for one in result.detections
    )
    counts = ", ".join(f"{name} {count}" for name, count in result.counts.items())
    where = result.frame.source if Path(result.frame.source).suffix else ""
    timing = result.timing
    cost = timing.preprocess_ms + timing.infer_ms + timing.decode_ms
    number = f"{result.frame.id:5d}" if total is None else f"{result.frame.id + 1:5d}/{total}"
    return (
        f"{number}  {cost:6.1f} ms  {where and Path(where).name + '  '}{found or 'nothing'}{counts and '  | ' + counts}"
    )


def _summary(stats: Stats, file_s: float | None, no_power: str | None) -> None:
    """What became of the frames, and how fast: of a file its rate, of a live source how fresh its results were."""
    said = {"shutdown": "waiting at the end"}
    dropped = ", ".join(
        f"{count} {said.get(cause, cause.replace('_', ' '))}" for cause, count in sorted(stats.dropped.items())
    )
    text = f"{stats.captured} captured, {stats.processed} processed, dropped: {dropped or 'none'}"
    for key, title in (("infer_ms", "inference"), ("total_ms", "age at result")):
        ms = stats.percentiles[key]
        if ms and (key == "infer_ms" or file_s is None):
            text += f"; {title} p50 {ms['p50']:.1f} ms, p99 {ms['p99']:.1f} ms"
    if file_s is not None and stats.processed:
        text += f"; {stats.processed / file_s:.1f} frames/s"
    if stats.reconnects or stats.stalls:
        text += f"; {stats.reconnects} reconnections, {stats.stalls} stalls"
    typer.echo(text, err=True)
    if stats.energy is not None or no_power is not None:
        typer.echo(f"power: {shared.power_text(stats.energy, no_power)}", err=True)
    for name, sink in stats.sinks.items():
        if sink.dropped or sink.failed:
            why = f" ({sink.error})" if sink.error else ""
            typer.echo(f"{name}: {sink.written} written, {sink.dropped} dropped, {sink.failed} failed{why}", err=True)
