"""``edge-sdk evaluate``: mean average precision on labelled photos."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from edge_sdk.cli import shared


def command(
    model: str = typer.Argument(None, help=shared.MODEL_HELP),
    data: Path = typer.Option(
        ...,
        "--data",
        help="Labelled photos: a folder in COCO, YOLO or VOC layout, its images/val, or a COCO .json file.",
    ),
    backend: str = shared.backend_option,
    iou: float = shared.iou_option,
    threads: int = shared.threads_option,
    head: str = shared.head_option,
    card: Path = shared.card_option,
    option: list[str] = shared.option_option,
    as_json: bool = shared.json_option,
) -> None:
    """Measure COCO mAP on labelled photos, with a 95 % interval.

    Every class of a box above 0.01 is a candidate, the best 3000 are kept, then non-maximum suppression within each
    class, then 100 boxes a photo.

    Example: edge-sdk evaluate yolox_nano.onnx --data coco_eval/
    """
    from edge_sdk import datasets
    from edge_sdk.detector import Detector
    from edge_sdk.measure.accuracy import evaluate

    dataset = datasets.load(data)
    with Detector(
        model, backend=backend, iou=iou, threads=threads, head=head, card=card, options=shared.parse_options(option)
    ) as detector:
        with shared.progress(f"{detector.path.name} on {data.name}", len(dataset.photos)) as advance:
            found = evaluate(detector, dataset, progress=lambda _done, _all: advance(1))
        about = {"model": detector.path.name, "head": detector.head.name, "backend": detector.session.active}
    if as_json:
        shared.print_json({**about, "data": str(data), "layout": dataset.layout, **asdict(found)})
        return
    low, high = found.interval
    typer.echo(f"{about['model']}, head {about['head']}, on {about['backend']}")
    typer.echo(f"{found.images} photos ({dataset.layout} labels in {data})")
    typer.echo(f"  mAP50-95  {found.map:.4f}   95 % interval {low:.4f} to {high:.4f} (bootstrap over photos)")
    typer.echo(f"  mAP50     {found.map50:.4f}")
    typer.echo(f"  mAP75     {found.map75:.4f}")
    best = sorted(found.per_class.items(), key=lambda item: -item[1])
    typer.echo("  best classes   " + ", ".join(f"{name} {value:.2f}" for name, value in best[:5]))
    typer.echo("  worst classes  " + ", ".join(f"{name} {value:.2f}" for name, value in best[:-6:-1]))
    if found.classes_not_in_model:
        typer.echo(f"  left out, not in the model: {', '.join(found.classes_not_in_model)}")
    if found.skipped:
        typer.echo(f"  {len(found.skipped)} photos could not be read: {', '.join(found.skipped[:5])}", err=True)
    if found.map < 0.05:
        typer.echo(
            "  This is hardly better than chance. Either the file is damaged (an INT8 file whose one scale clips the "
            "boxes, say), or it is fed or read wrongly: check the model card.",
            err=True,
        )
