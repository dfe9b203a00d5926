"""Where ``edge-sdk detect`` sends results: what the options ask for, as sinks."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_sdk.errors import SinkError, UsageError

if TYPE_CHECKING:
    from edge_sdk.camera import Camera
    from edge_sdk.sinks.base import Sink


@dataclass(frozen=True)
class Outputs:
    """What the options ask for; None and False ask for nothing."""

    save: Path | None = None
    streams: tuple[str, ...] = ()
    coco: Path | None = None
    show: bool = False
    mqtt: str | None = None
    webhook: str | None = None
    webhook_every_s: float = 0.0
    rtsp: str | None = None
    http: str | None = None
    http_token: str | None = None

    @property
    def _files(self) -> list[Path]:
        companion = [] if self.coco is None else [self.coco, self.coco.with_name(f"{self.coco.stem}.images.json")]
        return [*companion, *(Path(stream) for stream in self.streams if stream != "-")]

    def check(self, inputs: list[str | None]) -> None:
        """No output may be an input: it would be replaced by what was drawn in it.

        Raises:
            UsageError: One is, or is named by an empty text.
        """
        read = [Path(name) for name in inputs if name]
        for output in [*self._files, *([] if self.save is None else [self.save])]:
            if output == Path():
                raise UsageError("an output is named by an empty text; name a file or a folder")
            for path in read:
                if output.exists() and path.exists() and output.samefile(path):
                    raise UsageError(f"{output}: is what is read, and would be lost; write to another name")

    def open(self, camera: Camera, expected: int | None) -> list[Sink]:
        """The sinks, all of them or none.

        Args:
            camera: Whose results they get.
            expected: How many, where that is known.

        Raises:
            SinkError, UsageError: As each sink raises them.
        """
        from edge_sdk.sinks.jsonl import JsonlSink
        from edge_sdk.sinks.video import picture_sink

        names, source = camera.detector.class_names, camera.source
        sinks: list[Sink] = []
        with ExitStack() as opened:

            def add(sink: Sink) -> None:
                sinks.append(sink)
                opened.callback(sink.close)

            if self.coco is not None:
                add(self._coco(camera))
            if self.save is not None:  # before the streams: it may refuse, and they replace what is in their files
                _check_room(self.save, expected)
                add(picture_sink(self.save, names, source.fps, live=source.live))
            if self.show:
                from edge_sdk.sinks.window import WindowSink

                add(WindowSink(names, f"Edge SDK: {source.name}"))
            if self.http is not None:
                from edge_sdk.sinks.http import HttpSink

                web = HttpSink(self.http, names, stats=lambda: camera.stats, camera=source.name, token=self.http_token)
                add(web)
                typer.echo(f"serving: {web.url}", err=True)
            if self.rtsp is not None:
                from edge_sdk.sinks.rtsp import RtspSink

                add(RtspSink(self.rtsp, names, source.fps or 15.0))
            if self.mqtt is not None:
                from edge_sdk.sinks.mqtt import MqttSink

                add(MqttSink(self.mqtt, names))
            if self.webhook is not None:
                from edge_sdk.sinks.webhook import WebhookSink

                add(WebhookSink(self.webhook, names, every_s=self.webhook_every_s))
            for stream in self.streams:
                add(JsonlSink(stream, names))
            opened.pop_all()
        return sinks

    def _coco(self, camera: Camera) -> Sink:
        """The sink for COCO results; of photos, those that a run before has finished are left out of this one."""
        from edge_sdk.sinks.coco import CocoSink
        from edge_sdk.sinks.journal import Journal, run_header
        from edge_sdk.sources.files import PhotoSource

        assert self.coco is not None  # noqa: S101  whoever calls this has looked
        source = camera.source
        if not isinstance(source, PhotoSource):
            return CocoSink(self.coco, camera.detector.class_names, source=source.name)
        journal = Journal.open(self.coco, run_header(camera.detector, source.name, "coco"))
        try:
            done = source.skip(journal.done)
            stream = next((stream for stream in self.streams if stream != "-" and Path(stream).exists()), None)
            if done and stream is not None:
                raise UsageError(
                    f"{done} photos were finished by the run that is continued, so --jsonl {stream} would lose theirs; "
                    f"name another file, or remove {journal.path} to begin anew"
                )
            if done:
                typer.echo(f"{done} of {source.total} photos were finished before; going on", err=True)
            return CocoSink(self.coco, camera.detector.class_names, source=source.name, journal=journal)
        except BaseException:
            journal.close()
            raise


def finish(sinks: list[Sink]) -> None:
    """The source was read to its end: what is put together only then is.

    Raises:
        SinkError: It cannot be written.
    """
    from edge_sdk.sinks.coco import CocoSink

    for sink in sinks:
        if isinstance(sink, CocoSink):
            sink.finish()


def check_written(sinks: list[Sink], camera: Camera) -> None:
    """What should be complete must be. Of a live source a slow output may miss some results; failing is worse.

    Raises:
        SinkError: A file did not get every result.
    """
    for sink, written in zip(sinks, camera.stats.sinks.values(), strict=True):
        lost = written.failed + (0 if camera.source.live else written.dropped)
        if sink.complete and (lost or written.error is not None):
            raise SinkError(f"{sink.name}: {lost} results were not written: {written.error or 'it was too slow'}")


def _check_room(save: Path, expected: int | None) -> None:
    from edge_sdk.sources.files import PHOTO_SUFFIXES

    if save.suffix.lower() in PHOTO_SUFFIXES and expected != 1:
        count = "no known end" if expected is None else f"{expected} pictures"
        raise UsageError(f"--save {save}: one photo, but the source has {count}; name a video (.mp4) or a folder")
