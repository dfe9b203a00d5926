"""``edge-sdk doctor``: looks this machine over and says how to mend what is wrong."""

from __future__ import annotations

from dataclasses import asdict

import typer

from edge_sdk.cli import shared


def command(as_json: bool = shared.json_option) -> None:
    """Check this machine and say how to mend what is missing.

    Exit code 1 if detection cannot work.

    Example: edge-sdk doctor
    """
    from edge_sdk import checks

    found = list(checks.run())
    bad = [check for check in found if check.state == "bad"]
    if as_json:
        shared.print_json({"ready": not bad, "checks": [asdict(check) for check in found]})
    else:
        marks = {
            "ok": ("ok  ", typer.colors.GREEN),
            "note": ("note", typer.colors.YELLOW),
            "bad": ("BAD ", typer.colors.RED),
        }
        for check in found:
            text, colour = marks[check.state]
            typer.echo(f"{typer.style(text, fg=colour)}  {check.name:<12} {check.found}")
            if check.mend is not None:
                typer.echo(f"{'':20}-> {check.mend}")
        typer.echo("ready" if not bad else f"not ready: {len(bad)} to mend")
    if bad:
        raise typer.Exit(1)
