"""Who is compared: each peer's options, environment and script; and running one, once for what it is given."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environments import Environment, NotInstalledError, reason

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

ORT = Environment("onnxruntime", ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy==1.14.0", "setuptools==80.9.0"))
NNCF = Environment(
    "nncf",
    ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.31.1", "opencv-python-headless==5.0.0.93", "pycocotools==2.0.11"),
)
# The CPU build of torch is a tenth of the other: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gives it.
AIMET = Environment(
    "aimet", ("aimet-onnx==2.42.0", "torch==2.13.0", "torchvision==0.28.0", "onnxruntime==1.31.1"), ("3.11", "3.12")
)


@dataclass(frozen=True)
class Peer:
    """A way to quantize a model.

    Args:
        name: What ``--only`` takes.
        title: Its row's.
        environment: That it is installed in.
        script: A file of this folder.
        options: What the script is told; plain values.
        labelled: Whether it scores models on labelled photos while it searches, with this repository's evaluation.
    """

    name: str
    title: str
    environment: Environment
    script: str
    options: Mapping[str, Any] = field(default_factory=dict)
    labelled: bool = False


_PERCENTILE = {"method": "Percentile", "percentile": 99.99}
PEERS = (
    Peer("ort-minmax", "ORT MinMax, all ops", ORT, "run_ort.py", {"method": "MinMax"}),
    Peer("ort-percentile", "ORT Percentile 99.99", ORT, "run_ort.py", _PERCENTILE),
    Peer("ort-head", "the same with the head in float", ORT, "run_ort.py", {**_PERCENTILE, "head_in_float": True}),
    Peer("ort-a16w8", "ORT A16W8", ORT, "run_ort.py", {"method": "MinMax", "activations": "uint16"}),
    Peer("nncf", "NNCF quantize, mixed preset", NNCF, "run_nncf.py"),
    Peer(
        "nncf-ac",
        "NNCF quantize_with_accuracy_control",
        NNCF,
        "run_nncf_control.py",
        {"max_drop": 0.005},
        labelled=True,
    ),
    Peer("aimet", "AIMET sensitivity + lite mixed precision, 10 % float", AIMET, "run_aimet.py", {"percent": 10}),
)


@dataclass(frozen=True)
class Material:
    """What every peer is given for a model.

    Args:
        model: The file.
        model_sha256: Of its bytes.
        calibration: A .npy of the calibration photos as the model is fed: [photos, *shape of the input].
        calibration_sha256: Of its bytes.
        labels: The labelled photos' folder.
        validation: Names of the labelled photos that may be searched on; none of them is among the calibration photos.
        vnni: Whether this machine multiplies 8-bit numbers without overflow.
    """

    model: Path
    model_sha256: str
    calibration: Path
    calibration_sha256: str
    labels: Path
    validation: tuple[str, ...]
    vnni: bool


@dataclass(frozen=True)
class Made:
    """What became of a peer.

    Args:
        path: Its file; None where there is none.
        seconds: Wall time of its whole process, imports included, as one waits for it.
        cpu_s: Its CPU time, which other work on the machine does not lengthen as much.
        failed: A line that says why there is no file.
        reused: Whether it is from an earlier run on the same.
    """

    path: Path | None
    seconds: float | None
    cpu_s: float | None = None
    failed: str | None = None
    reused: bool = False


def key(peer: Peer, material: Material) -> str:
    """Of all that decides what a peer makes: 64 hexadecimal digits."""
    facts = {
        "peer": [peer.name, dict(peer.options)],
        "environment": [peer.environment.name, *peer.environment.requirements],
        "script": hashlib.sha256((HERE / peer.script).read_bytes()).hexdigest(),
        "model": material.model_sha256,
        "calibration": material.calibration_sha256,
        "validation": list(material.validation) if peer.labelled else None,
        "vnni": material.vnni,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def quantize(peer: Peer, material: Material, cache: Path, *, limit_s: float, nice: int = 0) -> Made:
    """Has a peer quantize a model, or finds what it made of the same before.

    Args:
        peer: Its environment is made where it is not there.
        cache: Where environments and results are kept.
        limit_s: After which it is stopped.
        nice: How far it stands back behind other work; its seconds then say less.
    """
    folder = cache / "made" / f"{peer.name}-{key(peer, material)[:16]}"
    record = folder / "record.json"
    if record.is_file():
        kept = json.loads(record.read_text(encoding="utf-8"))
        return Made(folder / "model.onnx", float(kept["seconds"]), kept.get("cpu_s"), reused=True)
    try:
        python = peer.environment.make(cache)
    except NotInstalledError as error:
        return Made(None, None, failed=f"not installed: {error}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    job = {
        "model": str(material.model.resolve()),
        "calibration": str(material.calibration.resolve()),
        "labels": str(material.labels.resolve()),
        "validation": list(material.validation),
        "vnni": material.vnni,
        "out": str((folder / "model.onnx").resolve()),
        "options": dict(peer.options),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")
    command = [str(python), str(HERE / peer.script), str(folder / "job.json")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)} if peer.labelled else dict(os.environ)
    began, cpu = time.monotonic(), _children_s()
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["nice", "-n", str(nice), *command] if nice else command,
            stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(limit_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # some start processes of their own
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return Made(None, time.monotonic() - began, failed=f"not done after {limit_s:.0f} s")
            raise
    seconds, cpu_s = time.monotonic() - began, _children_s() - cpu
    if status or not (folder / "model.onnx").is_file():
        said = reason((folder / "log.txt").read_text(encoding="utf-8", errors="replace"))
        return Made(None, seconds, cpu_s, f"failed (status {status}): {said}")
    facts = {"seconds": seconds, "cpu_s": cpu_s, "versions": peer.environment.versions(cache)}
    record.write_text(json.dumps(facts), encoding="utf-8")
    return Made(folder / "model.onnx", seconds, cpu_s)


def _children_s() -> float:
    """CPU time of all child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
