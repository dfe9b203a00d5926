"""``edge-sdk models``: the zoo and the cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.cli.shared import console, json_option, print_json
from edge_sdk.errors import ChecksumError, DownloadError, EdgeSdkError, ModelError, UsageError, one_line

if TYPE_CHECKING:
    from edge_sdk.models.zoo import Progress, Store, ZooModel

app = typer.Typer(
    help="The zoo of public models: list, fetch and check them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command(
    "list", help="List the zoo's models and where each lies on this machine.\n\nExample: edge-sdk models list --json"
)
def list_models(ctx: typer.Context, json: bool = json_option) -> None:
    from edge_sdk.models import default

    store = _store(ctx)
    facts = [_facts(store, model) for model in store.models.values()]
    if json:
        print_json(
            {
                "default": {"path": str(default.ONNX), "bytes": default.ONNX.stat().st_size},
                "models": facts,
                "cache": str(store.cache),
                "folders": [str(folder) for folder in store.folders],
            }
        )
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "task", "head", "size", "licence", "here"):
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=True)
    size = _megabytes(default.ONNX.stat().st_size)
    table.add_row("(default)", "object detection", "yolo_nas", size, "Apache-2.0", "embedded")
    for fact in facts:
        row = (fact["name"], fact["task"], fact["head"] or "-", _megabytes(fact["bytes"]), fact["licence"])
        table.add_row(*row, fact["where"] or ("no, a wrong file" if fact["wrong"] else "no"))
    console().print(table)
    typer.echo("\nhead -: download only, 'edge-sdk models info NAME' says why. cache: " + str(store.cache), err=True)


@app.command("info", help="Say everything that is known of a model.\n\nExample: edge-sdk models info yolox-s")
def info(
    ctx: typer.Context, name: str = typer.Argument(help="The name of a zoo model."), json: bool = json_option
) -> None:
    store = _store(ctx)
    fact = _facts(store, store.model(name))
    if json:
        print_json(fact)
        return
    lines = {
        "name": fact["name"],
        "title": fact["title"],
        "task": fact["task"],
        "head": fact["head"] or "none: download only",
        "note": fact["note"],
        "licence": fact["licence"],
        "publisher": fact["publisher"],
        "address": fact["url"],
        "file": fact["file"],
        "size": f"{fact['bytes']} bytes",
        "sha256": fact["sha256"],
        "here": f"{fact['path']} ({fact['where']})" if fact["path"] else f"no: edge-sdk models pull {name}",
        "wrong": ", ".join(fact["wrong"]),
    }
    for key, value in lines.items():
        if value:
            typer.echo(f"{key:<10}{value}")


@app.command(
    "pull",
    help="Fetch models into the cache; what is on this machine already is left as it is.\n\n"
    "Example: edge-sdk models pull nanodet-m yunet",
)
def pull(
    ctx: typer.Context,
    names: list[str] = typer.Argument(None, help="Names of zoo models."),
    everything: bool = typer.Option(False, "--all", help="Every model of the zoo."),
    json: bool = json_option,
) -> None:
    store = _store(ctx)
    if bool(names) == everything:
        raise UsageError("name the models to fetch, or say --all: edge-sdk models pull nanodet-m")
    wanted = [store.model(name) for name in dict.fromkeys(names or store.models)]
    pulled: list[dict[str, Any]] = []
    failed: list[tuple[str, EdgeSdkError]] = []
    for model in wanted:
        try:
            path, fetched = _pull_one(store, model)
        except EdgeSdkError as error:
            failed.append((model.name, error))
            if len(wanted) > 1:
                typer.echo(f"{model.name}: {one_line(error)}", err=True)
        else:
            pulled.append({"name": model.name, "path": str(path), "fetched": fetched})
            if not json:
                typer.echo(str(path))
    if json:
        print_json({"pulled": pulled, "failed": [{"name": name, "error": one_line(error)} for name, error in failed]})
    if len(wanted) == 1 and failed:
        raise failed[0][1]
    if failed:
        raise DownloadError(f"{len(failed)} of {len(wanted)} models were not fetched: {_names(failed)}")


@app.command(
    "verify",
    help="Read every model file again and compare its checksum; exit code 1 where one is wrong.\n\n"
    "Example: edge-sdk models verify",
)
def verify(ctx: typer.Context, json: bool = json_option) -> None:
    store = _store(ctx)
    files = [*_verify_cache(store), *_verify_folders(store)]
    if json:
        print_json({"files": files, "cache": str(store.cache), "folders": [str(folder) for folder in store.folders]})
    else:
        for file in files:
            typer.echo(f"{file['state']:<10}{file['name'] or '-':<16}{file['path']}")
        if not files:
            typer.echo(f"no model files in {store.cache}", err=True)
    wrong = [file for file in files if file["state"] == "wrong"]
    if wrong:
        mends = " and ".join(
            f"edge-sdk models pull {file['name']}" if file["where"] == "cache" else f"replace or rename {file['path']}"
            for file in wrong
        )
        count = f"{len(wrong)} file is wrong" if len(wrong) == 1 else f"{len(wrong)} files are wrong"
        raise ChecksumError(f"{count} and will not be used; to mend: {mends}")


# --- what the commands share ---------------------------------------------------------------------


def _store(ctx: typer.Context) -> Store:
    """The zoo and its folders: those of the environment, unless the caller of the command brings others."""
    from edge_sdk.models.zoo import Store

    return ctx.find_object(Store) or Store.from_environment()


def _facts(store: Store, model: ZooModel) -> dict[str, Any]:
    copy = store.locate(model)
    return {
        "name": model.name,
        "title": model.title,
        "task": model.task,
        "head": model.head,
        "note": model.note,
        "licence": model.licence,
        "publisher": model.publisher,
        "url": model.url,
        "file": model.file,
        "bytes": model.size_bytes,
        "sha256": model.sha256,
        "where": copy.where if copy else None,
        "path": str(copy.path) if copy else None,
        "wrong": [str(path) for path in store.impostors(model)],
    }


def _pull_one(store: Store, model: ZooModel) -> tuple[Path, bool]:
    """The model's file, and whether it had to be fetched."""
    copy = store.locate(model)
    if copy:
        typer.echo(f"{model.name}: already here ({copy.where})", err=True)
        return store.pull(model.name), False
    with _shown(model) as progress:
        path = store.pull(model.name, progress=progress)
    typer.echo(f"{model.name}: fetched, checksum right", err=True)
    return path, True


@contextmanager
def _shown(model: ZooModel) -> Iterator[Progress]:
    """Progress on standard error: a bar on a terminal, a line each quarter elsewhere."""
    if not sys.stderr.isatty():
        typer.echo(f"{model.name}: fetching {_megabytes(model.size_bytes)} from {model.url}", err=True)
        yield _quarters(model.name)
        return
    from rich import progress as rich_progress

    with rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
        console=console(stderr=True),
    ) as bar:
        task = bar.add_task(model.name, total=model.size_bytes)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _quarters(name: str) -> Callable[[int, int], None]:
    said = 0

    def say(done: int, total: int) -> None:
        nonlocal said
        quarter = 4 * done // total
        if said < quarter < 4:
            typer.echo(f"{name}: {25 * quarter} %", err=True)
        said = max(said, quarter)

    return say


def _verify_cache(store: Store) -> Iterator[dict[str, Any]]:
    from edge_sdk.models.zoo import STAMP_SUFFIX

    known = {model.file: model for model in store.models.values()}
    for path in sorted(store.cache.iterdir()) if store.cache.is_dir() else ():
        if not path.is_file() or (path.name.startswith(".") and path.name.endswith(STAMP_SUFFIX)):
            continue
        model = known.get(path.name)
        if model:
            state = _state(path, model.sha256)
        elif path.suffix == ".part" and path.stem in known:
            model, state = known[path.stem], "unfinished"
        else:
            state = "unknown"  # to the zoo: nothing says what it should be
        yield {"path": str(path), "where": "cache", "name": model.name if model else None, "state": state}


def _verify_folders(store: Store) -> Iterator[dict[str, Any]]:
    """The zoo's files in the offline folders; what else lies there is the user's own."""
    from edge_sdk.models.zoo import scan

    by_file = {model.file: model for model in store.models.values()}
    by_size: dict[int, list[ZooModel]] = {}
    for model in store.models.values():
        by_size.setdefault(model.size_bytes, []).append(model)
    for folder in store.folders:
        for path in scan(folder):
            named = by_file.get(path.name)
            if named:
                state = _state(path, named.sha256)
                yield {"path": str(path), "where": "offline", "name": named.name, "state": state}
                continue
            for model in by_size.get(path.stat().st_size, ()):
                if _state(path, model.sha256) == "right":
                    yield {"path": str(path), "where": "offline", "name": model.name, "state": "right"}


def _state(path: Path, expected: str) -> str:
    """What the file's bytes say, read now."""
    from edge_sdk.models.zoo import check

    try:
        return "right" if check(path) == expected else "wrong"
    except ModelError as error:
        typer.echo(one_line(error), err=True)
        return "wrong"


def _names(failed: list[tuple[str, EdgeSdkError]]) -> str:
    return ", ".join(name for name, _ in failed)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
