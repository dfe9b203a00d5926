"""The table of quantizers on our detectors: others beside ours, on the same photos, timed in one process.

    python tools/compare_quantizers yolox_nano.onnx picodet_s_320_coco.onnx \\
        --calib coco_calib --eval coco_eval --ours out/yolox --ours out/picodet --markdown table.md

Every peer runs in a virtual environment of its own under ``.cache/compare_quantizers``, made by pip with pinned
versions when it is first needed; none is a dependency of this repository, and the row of one that cannot be installed
says so. With ``PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu`` AIMET's torch is a tenth as large.

- All get the same photos, chosen and prepared as the planner does: ``--photos`` of the calibration folder to calibrate.
  Who searches by mAP gets the rest of it, labelled, to search on.
- The evaluation photos are scored once for each finished file and choose nothing.
- Latency is the ratio to the optimized float model (canonical form and the float rewrites of this repository), one
  thread, all files in turns in one process: the machine's speed drifts.
- Planning seconds are the wall time of a peer's whole process on this machine; of ours, the sum that its report gives.

What a peer made is kept by a hash of its options, pins, script, model and photos, and so is a file's score: a run that
was stopped goes on. Latencies are measured anew each time, as they only compare within a run.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from material import Prepared, prepare
from measuring import digest_of, latencies, scored
from ours import Finished, finished
from quantizers import PEERS, quantize
from table import Row, markdown, plain, text

from edge_sdk import datasets
from edge_sdk.calibration.engines.onnxruntime import this_cpu
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.measure.paired import Paired, paired

REPOSITORY = Path(__file__).resolve().parents[2]
FLOAT, OPTIMIZED = "float", "optimized"
ROUNDS = 30
LIMIT_S = 3600


def rows_of(
    model: Path, prepared: Prepared, wanted: Sequence[str], arguments: argparse.Namespace, ours: Sequence[Finished]
) -> tuple[list[Row], dict[str, Any]]:
    """Has the peers work, then scores and times all files."""
    files = {FLOAT: model, OPTIMIZED: prepared.optimized}
    titles = {FLOAT: "float", OPTIMIZED: "float, optimized"}
    seconds: dict[str, float | None] = {OPTIMIZED: prepared.optimized_s}
    cpu: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        tell(f"{model.name}: {peer.title}")
        made = quantize(peer, prepared.material, arguments.cache, limit_s=arguments.limit, nice=arguments.nice)
        titles[peer.name], seconds[peer.name], cpu[peer.name] = peer.title, made.seconds, made.cpu_s
        if made.path is None:
            notes[peer.name] = made.failed or "it made no file"
        else:
            files[peer.name] = made.path
        tell(f"  {'kept from before, ' if made.reused else ''}{made.failed or f'{made.seconds:.0f} s'}")
    for one in ours:
        files[one.name], titles[one.name], seconds[one.name] = one.path, one.title, one.seconds
    labelled = datasets.load(arguments.eval)
    digest = digest_of(labelled)
    maps: dict[str, Paired] = {}
    plain_float = scored(model, model, labelled, digest, arguments.cache)
    for name, file in list(files.items()):
        tell(f"{model.name}: mAP of {titles[name]}")
        try:
            maps[name] = paired(plain_float, scored(file, model, labelled, digest, arguments.cache))
        except EdgeSdkError as error:
            notes[name] = f"cannot be run: {one_line(error)}"
            del files[name]
    tell(f"{model.name}: {len(files)} files in turns")
    turns = latencies(files, OPTIMIZED, prepared.photo, rounds=arguments.rounds)
    rows = []
    for name, title in titles.items():
        turn, score = turns.models.get(name), maps.get(name)
        rows.append(
            Row(
                name,
                title,
                map=None if score is None else score.value,
                drop=None if score is None or name == FLOAT else (score.drop, score.low, score.high),
                ratio=None if turn is None else (turn.ratio, turn.low, turn.high),
                ms=None if turn is None else turn.ms,
                seconds=seconds.get(name),
                cpu_s=cpu.get(name),
                size_bytes=files[name].stat().st_size if name in files else None,
                note=notes.get(name, ""),
            )
        )
    facts = {
        "model": model.name,
        "calibration_photos": arguments.photos,
        "evaluation_photos": len(labelled.photos),
        "peers_get": arguments.graph,
        "rounds": turns.rounds,
        "block": turns.block,
        "clock": turns.clock,
    }
    return rows, facts


def machine() -> dict[str, str]:
    """What the figures are of."""
    return {"machine": platform.machine(), "cpu": this_cpu(), "onnxruntime": onnxruntime.__version__, "threads": "1"}


def tell(line: str) -> None:
    """Progress, which stays out of pipes."""
    print(line, file=sys.stderr, flush=True)


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare_quantizers", description=__doc__.splitlines()[0])
    names = [peer.name for peer in PEERS]
    parser.add_argument("models", type=Path, nargs="+", help="detectors of one input")
    parser.add_argument("--calib", type=Path, required=True, help="labelled photos to calibrate and search on")
    parser.add_argument("--eval", type=Path, required=True, help="labelled photos that only score")
    parser.add_argument("--ours", type=Path, action="append", default=[], help="what `edge-sdk calibrate --out` wrote")
    parser.add_argument("--only", default=",".join(names), help=f"peers, with commas; none of: {', '.join(names)}")
    parser.add_argument("--graph", choices=("raw", "optimized"), default="raw", help="the float graph that peers get")
    parser.add_argument("--photos", type=int, default=64, help="to calibrate with")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photos")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the timing")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which a peer is stopped")
    parser.add_argument("--nice", type=int, default=0, help="let peers stand back behind other work")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache" / "compare_quantizers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", type=Path, help="write the tables here too")
    arguments = parser.parse_args(given)
    arguments.wanted = [name for name in arguments.only.split(",") if name]
    if strange := sorted(set(arguments.wanted) - set(names)):
        parser.error(f"no such peer: {', '.join(strange)}; there are {', '.join(names)}")
    return arguments


def main() -> None:
    arguments = parse()
    arguments.cache = arguments.cache.resolve()
    ours: dict[str, list[Finished]] = {}
    for folder in arguments.ours:
        name, found = finished(folder)
        ours.setdefault(name, []).extend(found)
    results = []
    for model in arguments.models:
        tell(f"{model.name}: photos")
        prepared = prepare(
            model, arguments.calib, arguments.cache, count=arguments.photos, seed=arguments.seed, given=arguments.graph
        )
        rows, facts = rows_of(model, prepared, arguments.wanted, arguments, ours.get(model.name, []))
        results.append((rows, facts))
        if not arguments.json:
            print(f"\n{model.name}: {', '.join(f'{key} {value}' for key, value in {**facts, **machine()}.items())}\n")
            print(text(rows), flush=True)
    if arguments.json:
        print(json.dumps([{**facts, **machine(), "rows": plain(rows)} for rows, facts in results], indent=2))
    if arguments.markdown is not None:
        parts = [f"### {facts['model']}\n\n{markdown(rows)}\n" for rows, facts in results]
        arguments.markdown.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
