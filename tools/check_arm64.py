"""The SDK's own command on 64-bit Arm with no board at hand, under emulation, compared with the same command here.

    python tools/check_arm64.py FOLDER --data SHARED [--cpu cortex-a76 ...] [--photo FILE] [--model FILE ...] [--json]

Makes in FOLDER what it needs (0.5 GB; a part that is complete is kept, so an interrupted run continues):

- qemu: qemu-user of Debian 13 (that of Debian 12 crashes when it loads ONNX Runtime or LiteRT);
- debian: Debian 12 for arm64, which Raspberry Pi OS of that time is made from, as far as Python 3.11 needs it;
- wheels: the aarch64 wheels that pip would install on the board, of the versions that are installed here.

Then, for each processor, it asks ``edge-sdk devices`` what it sees and runs ``edge-sdk detect`` with each model on two
pictures: the photo, and the same photo brought to the model's size beforehand. In the first OpenCV has a part: what it
resizes differs by one grey level between x86-64 and Arm. In the fitted one nothing is resized, and what differs is the
engine. Ends with 1 where a command failed, the boxes are not the same ones, or a difference is above the limit. The
limits are for models in float: with 8-bit ones each processor's kernels round in their own way, by several pixels.

This shows numbers, never time: the seconds are those of the emulator, and say nothing about a board. Nor does it show
a camera, a sensor or the board's kernel: /proc and /sys are this machine's.

It needs a Debian or a relative of it (apt-get, dpkg and Debian's archive keys), and pip; it needs no root and leaves
the machine's own packages alone. SHARED is the folder of test data, with ``models/`` and ``data/``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PHOTO = "data/coco_eval/images/000000008532.jpg"
MODELS = ("models/yolox_nano/yolox_nano.onnx", "models/yolox_nano/yolox_nano_float16_quantize.tflite")
CPUS = {"cortex-a76": "Raspberry Pi 5", "cortex-a72": "Raspberry Pi 4"}
LIMIT_PX = 1.0
LIMIT_SCORE = 0.01
TIMEOUT_S = 900

DEBIAN = "http://deb.debian.org/debian"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # of the package debian-archive-keyring
# By name and not with all that they depend on: behind libgl1 stand 40 MB of graphics drivers that nothing here loads.
PYTHON = ("python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
LIBRARIES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5"),
    *("libcrypt1", "libuuid1", "libsqlite3-0"),
)
# What opencv-python leaves to the system; on a board `apt install libgl1 libglib2.0-0` brings all of it.
FOR_OPENCV = (
    *("libgl1", "libglx0", "libglvnd0", "libx11-6", "libxcb1", "libxau6", "libxdmcp6", "libbsd0", "libmd0"),
    *("libglib2.0-0", "libpcre2-8-0"),
)
# The versions of these are taken from this environment, so that the processor is all that differs.
PINNED = ("numpy", "opencv-python", "onnxruntime", "ai-edge-litert")
WHEELS = (*PINNED, "typer", "rich")
# glibc 2.17, where the manylinux of aarch64 begin, to Debian 12's.
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))

_MADE_OF = "made_of.json"  # written last into a part: what it was made of
_AT_HWCAP = 16  # getauxval(3)
# Bits of AT_HWCAP in Linux' arch/arm64/include/uapi/asm/hwcap.h that engines choose their kernels by.
_FEATURES = {"asimd": 1, "asimdhp": 10, "asimddp": 20, "sve": 22}


class CheckError(Exception):
    """What went wrong and how to mend it, in one line."""


@dataclass(frozen=True)
class Box:
    """One detection as the command prints it: rounded to 0.01 pixel and 0.0001 of score."""

    class_id: int
    confidence: float
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Difference:
    """Between two lists of boxes; pixels and score over the pairs of one class, None where there is no pair."""

    here: int
    emulated: int
    pairs: int
    box_px: float | None
    score: float | None

    def within(self, limit_px: float, limit_score: float) -> bool:
        """Whether they are the same boxes, and agree so far."""
        if not self.here == self.emulated == self.pairs:
            return False
        return (self.box_px or 0.0) <= limit_px and (self.score or 0.0) <= limit_score


@dataclass(frozen=True)
class Row:
    """One model on one processor."""

    cpu: str
    backend: str
    model: str
    seconds_emulated: float
    photo: Difference
    fitted: Difference
    agrees: bool


@dataclass(frozen=True)
class Emulator:
    """An emulated Debian for arm64 with Python and the wheels."""

    folder: Path

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    def words(self, cpu: str, arguments: Sequence[str]) -> list[str]:
        """The command line that runs Python on this processor."""
        debian = self.folder / "debian"
        # Always with -cpu: what is taken without it has SVE, whose emulation is ten times slower.
        qemu = [str(self.folder / "qemu" / "qemu-aarch64"), "-cpu", cpu, "-L", str(debian)]
        return [*qemu, str(debian / "usr/bin/python3.11"), *arguments]


def boxes_by_picture(lines: str) -> dict[str, list[Box]]:
    """What ``edge-sdk detect --json`` printed, by the picture's name without its suffix.

    Raises:
        CheckError: It is not what that command prints.
    """
    found = {}
    try:
        for line in lines.splitlines():
            record = json.loads(line)
            found[Path(record["source"]).stem] = [
                Box(one["class_id"], one["confidence"], tuple(one["xyxy"])) for one in record["detections"]
            ]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(f"edge-sdk detect --json printed something else: {lines[:200]!r}") from error
    return found


def difference(here: Sequence[Box], emulated: Sequence[Box]) -> Difference:
    """Each box here against the nearest one of its class there."""
    left = list(emulated)
    pixels, scores = [], []
    for box in here:
        same_class = [other for other in left if other.class_id == box.class_id]
        if not same_class:
            continue
        nearest = min(same_class, key=lambda other: _apart_px(box, other))
        left.remove(nearest)
        pixels.append(_apart_px(box, nearest))
        scores.append(abs(box.confidence - nearest.confidence))
    counts = (len(here), len(emulated), len(pixels))
    if not pixels:
        return Difference(*counts, None, None)
    # The command prints so many digits: more would be made up.
    return Difference(*counts, round(max(pixels), 2), round(max(scores), 4))


def _apart_px(one: Box, other: Box) -> float:
    return max(abs(a - b) for a, b in zip(one.xyxy, other.xyxy, strict=True))


def features(hwcap: int) -> list[str]:
    """Names of the instructions that AT_HWCAP says a processor has."""
    return [name for name, bit in _FEATURES.items() if hwcap >> bit & 1]


def requirements(installed: Callable[[str], str] = version) -> list[str]:
    """The wheels to fetch, those of `PINNED` in the version that is installed here."""
    wanted = []
    for name in WHEELS:
        try:
            wanted.append(f"{name}=={installed(name)}" if name in PINNED else name)
        except PackageNotFoundError:
            raise CheckError(
                f"{name} is not installed here, so there is nothing to compare with: pip install {name}"
            ) from None
    return wanted


def run(words: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, doing: str = "") -> str:
    """A program's standard output.

    Raises:
        CheckError: It is not there, failed or did not end; `doing` says at what.
    """
    doing = doing or Path(words[0]).name
    if shutil.which(words[0]) is None:
        raise CheckError(f"{doing}: there is no {words[0]} here; this needs Debian or a relative of it")
    try:
        ended = subprocess.run(
            words, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"{doing}: not done after {TIMEOUT_S} s") from error
    if ended.returncode != 0:
        lines = (ended.stderr or ended.stdout).strip().splitlines()
        died = f"killed by signal {-ended.returncode}" if ended.returncode < 0 else f"ended with {ended.returncode}"
        raise CheckError(f"{doing}: {died}: {lines[-1] if lines else 'it said nothing'}")
    return ended.stdout


def prepare(folder: Path, say: Callable[[str], None]) -> Emulator:
    """Makes in `folder` the parts that are not complete.

    Raises:
        CheckError: A part cannot be made.
    """
    host = run(["dpkg", "--print-architecture"], doing="asking for this machine's architecture").strip()
    wheels = requirements()
    _part(folder / "qemu", ["trixie", host, "qemu-user"], _make_qemu, say)
    _part(folder / "debian", ["bookworm", "arm64", *PYTHON, *LIBRARIES, *FOR_OPENCV], _unpack, say)
    _part(folder / "wheels", wheels, _make_wheels, say)
    return Emulator(folder)


def _part(part: Path, made_of: list[str], make: Callable[[Path, list[str]], None], say: Callable[[str], None]) -> None:
    """One part, made beside its place and moved there when it is whole."""
    try:
        if json.loads((part / _MADE_OF).read_text(encoding="utf-8")) == made_of:
            return
    except (OSError, ValueError):
        pass
    say(f"making {part.name} ...")
    making = part.with_name(f"{part.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    make(making, made_of)
    (making / _MADE_OF).write_text(json.dumps(made_of), encoding="utf-8")
    shutil.rmtree(part, ignore_errors=True)
    making.rename(part)


def _make_qemu(part: Path, made_of: list[str]) -> None:
    unpacked = part / "unpacked"
    _unpack(unpacked, made_of)
    shutil.move(unpacked / "usr/bin/qemu-aarch64", part)  # it is static, and of some thirty emulators we need one
    shutil.rmtree(unpacked)


def _unpack(into: Path, made_of: list[str]) -> None:
    """Fetches packages of a suite for an architecture, with a state of apt of its own, and unpacks them."""
    suite, architecture, *names = made_of
    if not KEYS.is_file():
        raise CheckError(f"no {KEYS}, so what is fetched could not be trusted: apt install debian-archive-keyring")
    apt = into.with_name(f"{into.name}.apt")
    shutil.rmtree(apt, ignore_errors=True)
    for name in ("etc/parts", "state/lists/partial", "cache/archives/partial", "debs"):
        (apt / name).mkdir(parents=True)
    (apt / "state/status").touch()  # nothing is installed
    (apt / "etc/sources.list").write_text(f"deb [signed-by={KEYS}] {DEBIAN} {suite} main\n", encoding="utf-8")
    options = {
        "Dir::Etc": apt / "etc",
        "Dir::Etc::sourceparts": apt / "etc/parts",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "state/status",
        "Dir::Cache": apt / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    words = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
    doing = f"fetching {suite}'s packages for {architecture}"
    run([*words, "update", "-oAPT::Update::Error-Mode=any"], doing=doing)
    run([*words, "download", *names], cwd=apt / "debs", doing=doing)
    into.mkdir(exist_ok=True)
    for package in sorted((apt / "debs").iterdir()):
        run(["dpkg", "-x", str(package), str(into)], doing=f"unpacking {package.name}")
    shutil.rmtree(apt)


def _make_wheels(part: Path, made_of: list[str]) -> None:
    # Conditions in a wheel's requirements are judged by pip for this machine; none of these asks for the processor.
    target = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    words += ["--target", str(part), "--only-binary", ":all:", *target, *platforms, *made_of]
    run(words, doing=f"fetching aarch64 wheels of {', '.join(made_of)}")


def environment(*paths: Path, **more: str) -> dict[str, str]:
    """This process's variables, with `paths` as Python's and nothing that would lead it elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_", "QEMU_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONNOUSERSITE": "1", **more}


def make_pictures(folder: Path, photo: Path, model: Path) -> tuple[Path, str]:
    """A folder with ``photo`` as it is and as ``fitted`` (the model's size, so that nothing is left to resize).

    Returns:
        The folder, and the name of the backend that opens the model.
    """
    import cv2

    from edge_sdk.detector import Detector
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.models.preprocess import fit
    from edge_sdk.sources.files import read_photo

    try:
        image = read_photo(photo)
        with Detector(model) as detector:
            backend = detector.backend
            _, (_, _, height, width) = fit((image.shape[0], image.shape[1]), detector.card)
    except EdgeSdkError as error:
        raise CheckError(str(error)) from error
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(photo, folder / f"photo{photo.suffix}")
    cv2.imwrite(str(folder / "fitted.png"), cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return folder, backend


def processor(emulator: Emulator, cpu: str, env: Mapping[str, str]) -> dict[str, Any]:
    """What the emulated processor says it has, and what ``edge-sdk devices`` sees on it."""
    ask = f"import ctypes; print(ctypes.CDLL(None).getauxval({_AT_HWCAP}))"
    hwcap = run(emulator.words(cpu, ["-c", ask]), env=env, cwd=emulator.folder, doing=f"Python on {cpu}")
    words = emulator.words(cpu, ["-m", "edge_sdk", "devices", "--json"])
    devices = json.loads(run(words, env=env, cwd=emulator.folder, doing=f"edge-sdk devices on {cpu}"))
    if devices["machine"] != "linux aarch64":
        raise CheckError(f"emulated, the machine says that it is {devices['machine']}, not linux aarch64")
    return {"cpu": cpu, "board": CPUS[cpu], "features": features(int(hwcap)), "devices": devices}


def check(
    folder: Path,
    photo: Path,
    models: Sequence[Path],
    cpus: Sequence[str],
    limits: tuple[float, float],
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], list[Row]]:
    """Every model on every processor.

    Returns:
        What `processor` gives, and the rows.

    Raises:
        CheckError: A part cannot be made, or a command failed.
    """
    for path in (photo, *models):
        if not path.is_file():
            raise CheckError(f"{path}: no such file")
    emulator = prepare(folder, say)
    native = environment(REPOSITORY)
    # Compiled files go beside the wheels' folder: the repository is left as it is.
    emulated = environment(REPOSITORY, emulator.wheels, PYTHONPYCACHEPREFIX=str(folder / "compiled"))
    processors, rows = [], []
    for cpu in cpus:
        say(f"edge-sdk devices on {cpu} ...")
        processors.append(processor(emulator, cpu, emulated))
    for model in models:
        pictures, backend = make_pictures(folder / "pictures" / model.name, photo, model)
        detect = ["-m", "edge_sdk", "detect", str(pictures), "--model", str(model), "--json"]
        here = boxes_by_picture(
            run([sys.executable, *detect], env=native, cwd=folder, doing=f"edge-sdk detect with {model.name} here")
        )
        if not all(here.values()):
            raise CheckError(f"{photo.name}: {model.name} finds nothing in it here, so there is nothing to compare")
        for cpu in cpus:
            say(f"edge-sdk detect with {model.name} on {cpu} ...")
            began = time.monotonic()
            words = emulator.words(cpu, detect)
            there = run(words, env=emulated, cwd=folder, doing=f"edge-sdk detect with {model.name} on {cpu}")
            seconds = round(time.monotonic() - began, 1)
            found = boxes_by_picture(there)
            if not here.keys() == found.keys() == {"photo", "fitted"}:
                raise CheckError(f"edge-sdk detect: results of {sorted(here)} here, of {sorted(found)} on {cpu}")
            both = {name: difference(here[name], found[name]) for name in here}
            agrees = all(one.within(*limits) for one in both.values())
            rows.append(Row(cpu, backend, model.name, seconds, both["photo"], both["fitted"], agrees))
    return processors, rows


def table(processors: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> str:
    """What the program prints."""
    lines = ["| processor | of | has | edge-sdk devices says | engines |", "|---|---|---|---|---|"]
    for one in processors:
        devices = one["devices"]
        engines = ", ".join(
            f"{name['name']} {str(name['version']).split(' (')[0]}" if name["missing"] is None else f"no {name['name']}"
            for name in devices["backends"]
        )
        says = f"{devices['target']['name']}, {devices['machine']}, Python {devices['python']}"
        lines.append(f"| {one['cpu']} | {one['board']} | {', '.join(one['features'])} | {says} | {engines} |")
    columns = ("processor", "backend", "model", "seconds, emulated", "boxes here / there")
    columns += ("photo: px, score", "fitted photo: px, score", "agrees")
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.cpu, row.backend, row.model, f"{row.seconds_emulated:.1f}"]
        cells += [", ".join(f"{one.here} / {one.emulated}" for one in (row.photo, row.fitted))]
        cells += [_shown(row.photo), _shown(row.fitted), "yes" if row.agrees else "NO"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Emulated: this shows numbers, never time. The seconds say nothing about a board."]
    return "\n".join(lines)


def _shown(one: Difference) -> str:
    return "no pairs" if one.box_px is None or one.score is None else f"{one.box_px:.2f}, {one.score:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where what is needed is made and kept")
    parser.add_argument("--data", type=Path, required=True, metavar="SHARED", help="the folder of test data")
    parser.add_argument("--cpu", nargs="+", choices=list(CPUS), default=list(CPUS), help="default: all")
    parser.add_argument("--photo", type=Path, help="another photo than that of the test data")
    parser.add_argument("--model", nargs="+", type=Path, help="other models than those of the test data")
    parser.add_argument("--limit-px", type=float, default=LIMIT_PX, help="default: %(default)s")
    parser.add_argument("--limit-score", type=float, default=LIMIT_SCORE, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    given = parser.parse_args(arguments)
    photo = given.photo or given.data / PHOTO
    models = given.model or [given.data / model for model in MODELS]
    folder = given.folder.resolve()
    try:
        processors, rows = check(
            folder,
            photo.resolve(),
            [model.resolve() for model in models],
            given.cpu,
            (given.limit_px, given.limit_score),
            lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (CheckError, OSError) as error:  # OSError: the folder cannot be written, or the disk is full
        print(f"check_arm64: {error}", file=sys.stderr)
        return 1
    if given.json:
        note = "emulated: numbers, never time"
        print(json.dumps({"note": note, "processors": processors, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(table(processors, rows))
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
