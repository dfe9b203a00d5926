"""``edge-sdk devices``: what this machine is and what it can run."""

from __future__ import annotations

from typing import Any

import typer

from edge_sdk.cli import shared


def command(
    fits: str = typer.Option(
        None, "--fits", metavar="MODEL", help="Also: does this model fit this machine? Runs it once."
    ),
    boards: bool = typer.Option(False, "--boards", help="Instead: every board there is a table for."),
    as_json: bool = shared.json_option,
) -> None:
    """Show the board, its backends, cameras and power sensors.

    Of a backend that is missing it says why.

    Example: edge-sdk devices --fits yolox_nano.onnx
    """
    from edge_sdk import device

    if boards:
        _print_boards(as_json)
        return
    facts = device.facts()
    fit = device.fits(fits) if fits is not None else None
    if as_json:
        shared.print_json({**facts, "fits": fit} if fit is not None else facts)
    else:
        _print(facts)
        if fit is not None:
            _print_fit(fit)
    if fit is not None and not fit["fits"]:
        raise typer.Exit(1)


def _print_boards(as_json: bool) -> None:
    from edge_sdk import targets

    if as_json:
        shared.print_json([{"name": one.name, "label": one.label} for one in targets.load_all().values()])
        return
    for one in targets.load_all().values():
        typer.echo(f"{one.name:<32} {one.label}")


def _print(facts: dict[str, Any]) -> None:
    target = facts["target"]
    typer.echo(f"{target['label']} ({target['name']}, recognised: {target['confidence']})")
    for line in target["evidence"]:
        typer.echo(f"    {line}")
    typer.echo(f"Edge SDK {facts['edge_sdk']}, Python {facts['python']}, {facts['machine']}")
    typer.echo("Backends")
    for backend in facts["backends"]:
        state = backend["version"] if backend["missing"] is None else f"missing: {backend['missing']}"
        typer.echo(f"    {backend['name']:<12} {', '.join(backend['opens']):<14} {state}")
    typer.echo("Precisions native to this board")
    for name, precisions in target["precisions"].items():
        typer.echo(f"    {name:<12} {', '.join(precisions)}")
    typer.echo("Cameras")
    for camera in facts["cameras"]:
        typer.echo(f"    {camera['spec']:<14} {camera['label']}")
    if not facts["cameras"]:
        typer.echo("    none found ('edge-sdk doctor' says what to look at)")
    _print_power(facts["power"])


def _print_power(power: dict[str, Any]) -> None:
    total = power["total"]
    typer.echo(f"Power: {_watts(total)}")
    if total["value_w"] is not None and power["covers"] is not None:
        typer.echo(f"    it covers: {power['covers']}")
    for sensor in power["sensors"]:
        channels = sensor["channels"]
        if {one["value_w"] for one in channels} == {None} and len({one["reason"] for one in channels}) == 1:
            names, reason = ", ".join(one["name"] for one in channels), channels[0]["reason"]
            why = "" if reason == total["reason"] else f": {reason}"
            typer.echo(f"    {sensor['name']} gives nothing{why} ({names})")
            continue
        for one in channels:
            part = "in the total" if one["in_total"] else "not in the total"
            typer.echo(f"    {one['name']:<18} {sensor['name']}, {part}: {_watts(one)}")
    typer.echo("Sensors by name, for --sensor")
    for usage in power["meters"]:
        how, _, what = usage.partition("  ")
        typer.echo(f"    {how:<24} {what.strip()}")


def _watts(reading: dict[str, Any]) -> str:
    if reading["value_w"] is None:
        return f"not measured: {reading['reason']}"
    lacks = f"; {reading['reason']}" if reading["reason"] else ""
    return f"{reading['value_w']:.3f} W ({reading['method']}{lacks})"


def _print_fit(fit: dict[str, Any]) -> None:
    typer.echo(f"{fit['model']}: {'fits' if fit['fits'] else 'does not fit'}")
    typer.echo(f"    runtime    {fit['active']} ({fit['why']}), head {fit['head']}")
    native = (
        "; ".join(f"{name} {', '.join(values)}" for name, values in fit["native_precisions"].items()) or "not known"
    )
    typer.echo(f"    precision  layers in {', '.join(fit['layer_precisions']) or 'unknown'}; native here: {native}")
    memory = "unknown" if fit["memory_mib"] is None else f"{fit['memory_mib']} MiB"
    typer.echo(
        f"    memory     {fit['resident_mib']} MiB resident while running, of {memory}; file {fit['file_mib']} MiB"
    )
    for reason in fit["reasons"]:
        typer.echo(f"    {reason}")
