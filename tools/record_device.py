"""Records what a board says about itself and its sensors, for the tests: run it on the board, send in the file.

    python tools/record_device.py                     # writes device-NAME.json
    sudo python tools/record_device.py --seconds 10   # also what only root may read, and how often values change

It reads small text files of /proc, /sys and /etc and runs the vendor's tools that only tell. It changes nothing, sends
nothing, and waits for nothing. Serial numbers, MAC and IP addresses, UUIDs, the names of the host and of its users are
replaced before anything is written. Read the file through all the same before you give it away.
"""

from __future__ import annotations

import argparse
import errno
import getpass
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import edge_sdk
from edge_sdk.errors import EdgeSdkError, ShellError, one_line
from edge_sdk.files import replacing
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import open_power
from edge_sdk.shell import Shell, shell_for
from edge_sdk.targets import Identity, identify

MOST_BYTES = 4096  # of a file, as it is recorded
MOST_CHANGES = 2000  # of a file that is sampled
SAMPLE_S = 0.02

Content = str | dict[str, str]

# Where power, clocks, temperatures and identity stand. Every pattern ends in the names of files that only tell. Left
# out are serial numbers, what is not about these, and alarms: some chips clear theirs when they are read.
PATTERNS = (
    "proc/device-tree/compatible",
    "proc/device-tree/model",
    "sys/firmware/devicetree/base/compatible",
    "sys/firmware/devicetree/base/model",
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/loadavg",
    "proc/stat",
    "proc/sys/kernel/osrelease",
    "etc/os-release",
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "sys/bus/i2c/drivers/ina3221x/*/iio:device*/*",
    "sys/class/thermal/thermal_zone*/*",
    "sys/class/thermal/cooling_device*/*",
    "sys/class/devfreq/*/*",
    "sys/class/devfreq/*/device/load",
    "sys/class/devfreq/*/device/of_node/name",
    "sys/class/kgsl/kgsl-3d*/*",
    "sys/class/drm/card*/device/gpu_busy_percent",
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/possible",
    "sys/devices/system/cpu/cpufreq/policy*/*",
    "sys/devices/soc*/*",
    "sys/class/powercap/*/*",
    "sys/class/power_supply/*/*",
    "sys/firmware/acpi/platform_profile",
)
_TELLING = re.compile(
    r"compatible|model|cpuinfo|meminfo|loadavg|stat|osrelease|os-release|nv_tegra_release|nvpmodel\.conf|online|possible"
    r"|rail_name_\d|in_(power|voltage|current)\d(_[a-z]+)?_input|(crit|warn)_current_limit_\d|polling_delay_\d"  # iio
    r"|name|type|temp|policy|mode|trip_point_\d+_(temp|type)|(cur|max)_state"  # thermal
    r"|(cur|target|min|max)_freq|governor|available_(frequencies|governors)|load|gpu_busy_percent"  # devfreq, GPU
    r"|gpubusy|gpu_busy_percentage|gpuclk|max_gpuclk|gpu_model|gpu_available_frequencies|temp"  # kgsl
    r"|scaling_[a-z_]+|cpuinfo_[a-z_]+|affected_cpus|related_cpus"  # cpufreq
    r"|machine|family|soc_id|revision"  # soc0
    r"|energy_uj|max_energy_range_uj|enabled|constraint_\d_(name|power_limit_uw)"  # powercap
    r"|status|(power|voltage|current|energy|charge)_(now|avg)|present|scope|technology|capacity|usb_type"  # supplies
    r"|platform_profile"
)
_HWMON = re.compile(
    r"name|label|update_interval|samples|shunt_resistor|shunt\d+_resistor"
    r"|(in|curr|power|energy|temp|fan)\d+_(label|input|average|max|min|crit|lcrit|enable)|pwm\d+|pwm\d+_enable"
)
_HWMON_DEVICE = ("device/name", "device/uevent", "device/of_node/name")
_POWER = re.compile(
    r".*/((in|curr)\d+_input|(power|energy)\d+_(input|average)|in_(power|voltage|current)\d_input|energy_uj"
    r"|(power|voltage|current)_now)"
)

COMMANDS = (
    ("nvpmodel", "-q"),
    ("vcgencmd", "pmic_read_adc"),
    ("vcgencmd", "get_throttled"),
    ("vcgencmd", "measure_temp"),
    ("vcgencmd", "measure_volts", "core"),
    ("vcgencmd", "measure_clock", "arm"),
    ("vcgencmd", "measure_clock", "core"),
    ("dpkg-query", "-W", "nvidia-l4t-core"),
    ("dpkg-query", "-W", "nvidia-jetpack"),
    ("nvidia-smi", "--query-gpu=name,driver_version,power.draw,temperature.gpu,utilization.gpu", "--format=csv"),
    ("sh", "-c", "command -v tegrastats >/dev/null && tegrastats --interval 500 | head -n 4"),
)
_MAY_FAIL = ("sh", "dpkg-query")  # where there is no such package
NO_TOOLS = "none of the vendors' tools is here"
ROOT_COMMANDS = (("jetson_clocks", "--show"),)

# ---- what nobody else should know ----------------------------------------------------------------------------------

# Read to be replaced wherever they appear, and never recorded.
_SERIALS = (
    "proc/device-tree/serial-number",
    "sys/firmware/devicetree/base/serial-number",
    "sys/devices/soc*/serial_number",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "proc/sys/kernel/random/boot_id",
    "sys/class/dmi/id/*_serial",
    "sys/class/dmi/id/product_uuid",
    "sys/class/dmi/id/*_asset_tag",
    "sys/class/power_supply/*/serial_number",
    "sys/class/nvme/*/serial",
    "sys/class/block/*/wwid",
    "sys/class/block/*/uuid",
    "sys/class/block/*/device/serial",
    "sys/class/block/*/device/cid",
    "sys/class/mmc_host/*/*/serial",
    "sys/class/mmc_host/*/*/cid",
    "sys/bus/usb/devices/[0-9]*/serial",
    "sys/bus/nvmem/devices/*/serial",
)
_MACS = ("sys/class/net/*/address", "sys/class/bluetooth/*/address", "sys/class/ieee80211/*/macaddress")
_LEAST_SERIAL = 6
_KINDS = (
    ("uuid", re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])")),
    ("mac", re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{2}([:_-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![0-9a-f])")),
    ("ip", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")),
    ("ip", re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}(?![\w:])")),
    ("ip", re.compile(r"(?i)(?<![\w:])(?=[0-9a-f:]*::)[0-9a-f]{1,4}(?::{1,2}[0-9a-f]{1,4}){1,7}(?![\w:])")),
    ("id", re.compile(r"(?i)(?<![0-9a-z])(?:0x)?(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{16,}(?![0-9a-z])")),
)
# Names that images come with tell nothing about their owner, and are words of device trees.
_COMMON_NAMES = frozenset(
    {"arduino", "debian", "edge", "jetson", "localhost", "nano", "nvidia", "orin", "pi", "radxa", "raspberry"}
    | {"raspberrypi", "rock", "root", "rubikpi", "tegra", "tegra-ubuntu", "thor", "ubuntu", "user", "xavier"}
)
# What vendors write: no name of a host or of a user is in it, and a host may be called as the board is.
_VENDORS = re.compile(r".*/(compatible|model|nv_tegra_release|os-release|machine|family|name|type|[a-z]+\d+_label)")


class Scrubber:
    """Replaces what would tell one machine, or its owner, from another; the same by the same word.

    Args:
        serials: Replaced wherever they appear, whatever the case. Those of fewer than six characters, and words without
            a digit ("None", "Default string"), are no serial numbers.
        names: Of the host and its users: replaced where they are whole words.

    Attributes:
        replaced: How many of each kind.
    """

    def __init__(self, serials: Iterable[str] = (), names: Iterable[str] = ()) -> None:
        known = {form.lower() for serial in serials for form in _forms(serial) if _is_serial(form)}
        words = {name.lower() for name in names if len(name) > 1} - _COMMON_NAMES
        self._known = _any_of(known)
        self._names = _any_of(words, r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])")
        self._words: dict[tuple[str, str], str] = {}
        self.replaced: dict[str, int] = {}

    def __call__(self, text: str, *, names: bool = True) -> str:
        """The text without them; `names` False leaves names of host and users."""
        text = self._known.sub(lambda found: self._word("serial", found[0]), text) if self._known else text
        for kind, pattern in _KINDS:
            text = pattern.sub(lambda found, kind=kind: self._word(kind, found[0]), text)  # type: ignore[misc]
        if names and self._names:
            text = self._names.sub(lambda found: self._word("name", found[0]), text)
        return text

    def _word(self, kind: str, secret: str) -> str:
        self.replaced[kind] = self.replaced.get(kind, 0) + 1
        number = sum(1 for other, _ in self._words if other == kind) + 1
        return self._words.setdefault((kind, secret.lower()), f"<{kind}{number}>")


def _forms(serial: str) -> Iterator[str]:
    """A serial number as it may also be written."""
    plain = serial.strip(" \t\r\n\0")
    yield plain
    yield plain.lower().removeprefix("0x").lstrip("0")
    if re.fullmatch(r"(?i)(?:[0-9a-f]{2}[:-]){5,}[0-9a-f]{2}", plain):
        digits = re.sub("[:-]", "", plain)
        yield from (digits, "-".join(re.findall("..", digits)), "_".join(re.findall("..", digits)))


def _is_serial(text: str) -> bool:
    return len(text) >= _LEAST_SERIAL and any(char.isdigit() for char in text) and bool(set(text) - set("0:-_. "))


def _any_of(words: Iterable[str], before: str = "", after: str = "") -> re.Pattern[str] | None:
    found = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(f"{before}(?:{'|'.join(map(re.escape, found))}){after}", re.IGNORECASE) if found else None


def scrubber_of(root: Path) -> Scrubber:
    """What must not get out of the machine whose files are under a root."""
    serials = [
        line
        for pattern in (*_SERIALS, *_MACS)
        for path in root.glob(pattern)
        if isinstance(text := read(path), str)
        for line in text.replace("\0", "\n").splitlines()
    ]
    cpuinfo = read(root / "proc/cpuinfo", 256 * 1024)
    serials += re.findall(r"(?im)^serial[\w \t]*:[ \t]*(\S+)", cpuinfo) if isinstance(cpuinfo, str) else []
    names = [read(root / place) for place in ("etc/hostname", "proc/sys/kernel/hostname")]
    passwd = read(root / "etc/passwd", 64 * 1024)
    people = re.findall(r"(?m)^([^:\n]+):[^:\n]*:\d{4,5}:", passwd) if isinstance(passwd, str) else []
    if root == Path("/"):
        people += [name for name in (_user(), os.environ.get("SUDO_USER")) if name]
    hosts = [name.strip() for name in names if isinstance(name, str)]
    return Scrubber(serials, [*hosts, *(host.partition(".")[0] for host in hosts), *people])


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return None


# ---- reading -------------------------------------------------------------------------------------------------------


def read(path: Path, most: int = 2 * MOST_BYTES) -> Content | None:
    """A file's text without waiting for it, or {"errno": name}; None where it is not there or is no text file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) else _failed(error)
    try:
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):  # a pipe stands in captured trees for what fails so
            return None
        raw = os.read(descriptor, most)
        while 0 < len(raw) < most and (more := os.read(descriptor, most - len(raw))):  # /proc gives a page at a time
            raw += more
    except OSError as error:
        return _failed(error)
    finally:
        os.close(descriptor)
    text = raw.decode("utf-8", "replace")
    return text if sum(_is_text(char) for char in text) >= 0.9 * len(text) else None


def _is_text(char: str) -> bool:
    return (char.isprintable() and char != "\ufffd") or char in "\n\t\0"


def _failed(error: OSError) -> dict[str, str]:
    return {"errno": errno.errorcode.get(error.errno or 0, "EIO")}


def paths(root: Path) -> dict[str, str]:
    """What is to be recorded: where it is under the root -> what it is called in the recording, "/sys/...".

    A hwmon chip is recorded twice: under its number in /sys/class/hwmon, and under the path of its device, which has
    the I2C bus and address. `links` says which is which.
    """
    found: dict[str, str] = {}
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            if _TELLING.fullmatch(path.name):
                found[str(path)] = f"/{path.relative_to(root)}"
    for folder, name in hwmon_folders(root):
        for path in sorted(folder.glob("*")):
            voltage_alarm = path.name == "in0_lcrit_alarm" and read(folder / "name") == "rpi_volt\n"
            if _HWMON.fullmatch(path.name) or voltage_alarm:
                found[str(path)] = f"{name}/{path.name}"
        found |= {str(folder / extra): f"{name}/{extra}" for extra in _HWMON_DEVICE if (folder / extra).is_file()}
    return found


def links(root: Path) -> dict[str, str]:
    """/sys/class/hwmon/hwmonN -> the path of its device, where that is a link inside the root."""
    found = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        real = Path(os.path.realpath(folder))
        if folder.is_symlink() and real.is_relative_to(os.path.realpath(root)):
            found[f"/{folder.relative_to(root)}"] = f"/{real.relative_to(os.path.realpath(root))}"
    return found


def hwmon_folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Every hwmon folder, and what it is called: by its class, and by its device where a link leads there."""
    classed = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    yield from ((folder, f"/{folder.relative_to(root)}") for folder in classed)
    yield from ((root / real.lstrip("/"), real) for real in links(root).values())
    if not classed and root != Path("/"):  # a captured tree may have the devices alone
        for folder in sorted((root / "sys/devices").glob("**/hwmon/hwmon*")):
            yield folder, f"/{folder.relative_to(root)}"


def shortened(name: str, text: str) -> str:
    """What is recorded of a file that also tells other things."""
    if name == "/proc/cpuinfo":
        return cpuinfo_lines(text)
    if name.endswith("/uevent"):  # of a battery it has its serial number
        return "".join(
            line for line in text.splitlines(keepends=True) if line.startswith(("OF_", "MODALIAS", "DRIVER"))
        )
    if name == "/proc/stat":
        return "".join(line for line in text.splitlines(keepends=True) if line.startswith("cpu"))
    if name == "/etc/nvpmodel.conf":
        return "".join(
            line for line in text.splitlines(keepends=True) if re.match(r"<\s*(POWER_MODEL|PM_CONFIG)", line)
        )
    return text


_CPUINFO = ("processor", "CPU implementer", "CPU part", "Hardware", "Revision", "Model", "")


def cpuinfo_lines(text: str) -> str:
    """The lines of /proc/cpuinfo that tell processors and board: of the first whole, of the others their cores."""
    kept: list[str] = []
    processors = 0
    for line in text.splitlines():
        key = line.partition(":")[0].strip()
        processors += key == "processor"
        if not key.lower().startswith("serial") and (processors < 2 or key in _CPUINFO):
            kept.append(line)
    return "\n".join(kept) + "\n"


def run_commands(shell: Shell, scrub: Scrubber, *, is_root: bool) -> dict[str, Content]:
    """What the vendor's tools print, those that are there."""
    said: dict[str, Content] = {}
    for command in (*COMMANDS, *(ROOT_COMMANDS if is_root else ())):
        line = " ".join(command)
        try:
            text = scrub(shell.run(command, timeout_s=10))
        except ShellError as error:
            reason = one_line(error)
            if command[0] not in _MAY_FAIL and "not installed" not in reason and "not run" not in reason:
                said[line] = {"error": scrub(reason)[:MOST_BYTES]}
            continue
        if text.strip():
            said["tegrastats --interval 500" if command[0] == "sh" else line] = text[:MOST_BYTES]
    return said


def sample(files: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """How the power files change over some seconds: every change of each, as [milliseconds since the begin, number]."""
    watched: dict[str, str] = {}
    seen_paths: set[str] = set()
    for path, name in files.items():
        if _POWER.fullmatch(name) and os.path.realpath(path) not in seen_paths:  # of two names the first
            seen_paths.add(os.path.realpath(path))
            watched[name] = path
    changes: dict[str, list[list[float | int]]] = {name: [] for name in watched}
    began, rounds = time.monotonic(), 0
    while (at := time.monotonic() - began) < seconds:
        rounds += 1
        for name, path in watched.items():
            text = read(Path(path), 64)
            number = int(text) if isinstance(text, str) and re.fullmatch(r"\s*-?\d{1,20}\s*", text) else None
            seen = changes[name]
            if number is not None and len(seen) < MOST_CHANGES and (not seen or seen[-1][1] != number):
                seen.append([round(at * 1000, 1), number])
        time.sleep(max(0.0, began + rounds * SAMPLE_S - time.monotonic()))
    return {"seconds": round(time.monotonic() - began, 3), "rounds": rounds, "changes": changes}


def record(root: Path, shell: Shell, *, name: str | None = None, seconds: float = 0.0) -> tuple[str, dict[str, Any]]:
    """The name of a tree and the tree, as in the captures that the tests use.

    Args:
        root: Of /proc, /sys and /etc.
        shell: Runs the vendor's tools.
        name: Of the tree; None is the board's.
        seconds: For how long the power files are sampled; 0 is not.
    """
    scrub = scrubber_of(root)
    listed = paths(root)
    contents: dict[str, Content | None] = {}  # of a file with two names there is one
    files: dict[str, Content] = {}
    for path, called in listed.items():
        real = os.path.realpath(path)
        if real not in contents:
            long = called in ("/proc/cpuinfo", "/etc/nvpmodel.conf")
            contents[real] = read(Path(path), 256 * 1024 if long else 2 * MOST_BYTES)
        content = contents[real]
        if isinstance(content, str):
            text = scrub(shortened(called, content), names=not _VENDORS.fullmatch(called))
            files[scrub(called, names=False)] = text[:MOST_BYTES]
        elif content is not None:
            files[scrub(called, names=False)] = content
    is_root = os.geteuid() == 0
    user = "as root" if is_root else "not as root"
    identity = identify(root)
    tree: dict[str, Any] = {
        "provenance": f"recorded by tools/record_device.py of edge_sdk {edge_sdk.__version__} on "
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {user}; scrubbed, otherwise verbatim",
        "identified": f"{identity.target.name} ({identity.confidence})",
        "files": files,
        "links": {scrub(link, names=False): scrub(real, names=False) for link, real in links(root).items()},
        "commands": run_commands(shell, scrub, is_root=is_root),
    }
    if seconds > 0:
        sampled = sample(listed, seconds)
        sampled["changes"] = {scrub(key, names=False): value for key, value in sampled["changes"].items()}
        tree["samples"] = sampled
    tree["scrubbed"] = dict(sorted(scrub.replaced.items()))
    return scrub(name or identity.target.name.replace("-", "_")), tree


# ---- the program ---------------------------------------------------------------------------------------------------


def power_now(identity: Identity, root: Path, shell: Shell) -> str:
    """What this version measures on the board, in a line."""
    try:
        with open_power(target=identity.target, root=root, shell=shell) as power:
            if power.main is None:
                return f"no power: {power.reason}"
            gauge = Gauge(power.main)
            total = gauge.read().total
            if any(channel.quantity == "energy" for channel in power.main.channels):
                time.sleep(0.5)
                total = gauge.read().total
    except EdgeSdkError as error:
        return f"no power: {one_line(error)}"
    value = "no power" if total.value is None else f"{total.value:.3f} W ({total.method})"
    return value if total.reason is None else f"{value}: {total.reason}"


def summary(tree: Mapping[str, Any], target: Path) -> str:
    """What was recorded, and what to do with it."""
    failing = [f"{name} ({content['errno']})" for name, content in tree["files"].items() if isinstance(content, dict)]
    lines = [
        f"identified as {tree['identified']}",
        f"{len(tree['files'])} files, {len(failing)} of them failing"
        + (f": {', '.join(failing[:6])}" if failing else ""),
        f"commands: {'; '.join(tree['commands']) or NO_TOOLS}",
        "replaced: " + (", ".join(f"{count} x {kind}" for kind, count in tree["scrubbed"].items()) or "nothing"),
    ]
    if "samples" in tree:
        for name, changes in tree["samples"]["changes"].items():
            lines.append(f"  {name}: {len(changes)} values in {tree['samples']['seconds']:g} s")
    lines += [
        f"written to {target}",
        "Read it through, then attach it to a new issue of this project, with the board's name and how it is powered.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None, shell: Shell | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/"), help="of /proc, /sys and /etc, for captured trees")
    parser.add_argument("--seconds", type=float, default=0.0, help="for how long the power files are sampled")
    parser.add_argument("--name", help="of the tree; the board's by default")
    parser.add_argument("--out", type=Path, help="the file to write; device-NAME.json by default")
    options = parser.parse_args(arguments)
    if not 0 <= options.seconds <= 600:
        parser.error("--seconds must be between 0 and 600")
    shell = shell_for(options.root) if shell is None else shell
    try:
        name, tree = record(options.root, shell, name=options.name, seconds=options.seconds)
        target = options.out or Path(f"device-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.json")
        with replacing(target) as temporary:
            temporary.write_text(json.dumps({name: tree}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(summary(tree, target))
        print(f"this version reads {power_now(identify(options.root), options.root, shell)}")
    except EdgeSdkError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
