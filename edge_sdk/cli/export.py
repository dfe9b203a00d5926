"""``edge-sdk export``: the file that a plan asks for."""

from __future__ import annotations

from pathlib import Path

import typer

from edge_sdk.cli import shared


def command(
    model: str = typer.Argument(
        ..., help="The model that was calibrated, a file or a zoo name, or the prepared.onnx that came with the plan."
    ),
    plan: Path = typer.Option(..., "--plan", help="plan.json, as it was written or edited by hand."),
    out: Path = typer.Option(
        None, "--out", "-o", help="The file to write; left out: the model's name with the target's, in this folder."
    ),
    target: str = typer.Option(None, "--target", help="Another board than the plan is for."),
    cpu: str = typer.Option(
        None, "--cpu", help="What it will run on: x86, x86-vnni or arm; left out: as the target has it."
    ),
    head: str = shared.head_option,
    card: Path = shared.card_option,
    cache: Path = typer.Option(None, "--cache", help="Where 'edge-sdk calibrate --cache' kept its work."),
    allow_differences: bool = typer.Option(
        False, "--allow-differences", help="Write the file though layers run otherwise than planned, and say which."
    ),
    as_json: bool = shared.json_option,
) -> None:
    """Write the file that a plan asks for, and hold what the engine makes of it against the plan.

    Example: edge-sdk export yolox_nano.onnx --plan plan.json --out yolox_nano.int8.onnx
    """
    from edge_sdk.calibration.export import export_file
    from edge_sdk.plan import Plan

    written = out if out is not None else Path(f"{Path(model).stem}.{target or Plan.load(plan).target}.onnx")
    done = export_file(
        model,
        plan,
        written,
        target=target,
        cpu=cpu,
        card=card,
        head=head,
        cache=cache,
        allow_differences=allow_differences,
    )
    if as_json:
        shared.print_json(done.record())
        return
    share = ", ".join(f"{count} nodes in {precision}" for precision, count in done.layers.items())
    typer.echo(f"{done.path}: for {done.engine} on {done.target}{f' ({done.cpu})' if done.cpu else ''}")
    typer.echo(f"  planned    {share}")
    if done.differences is None:
        typer.echo("  read back  not on this machine, whose processor is another")
    elif done.differences:
        typer.echo(f"  read back  {len(done.differences)} layers run otherwise than planned")
    else:
        typer.echo("  read back  every layer that states its precision runs as planned")
    typer.echo(f"  prepared   {done.prepared}")
