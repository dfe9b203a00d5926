"""A board that is files: its sensors show a power whose true course is known, as coarse and as late as real ones do.

For tests of whatever measures power. Whoever measures sees the files alone.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_sdk.measure.clock import Clock, Repeating
from edge_sdk.targets import Target, load

Kind = Literal["jetson-orin-nano", "jetson-agx-thor", "generic-x86_64"]

_INA3221_S = 0.0043  # one channel's conversion on a stock Jetson: 4.156 ms for the bus and 0.140 ms for the shunt
_WANDER_S = 2.0  # how long a chance change of power lasts
_WIDTH = 24  # of a number in a file: padded, so that a shorter one leaves nothing of the longer one before it


class SimulatedClock:
    """Time that passes when somebody sleeps; what repeats is called in the sleeper's thread when it is due."""

    def __init__(self) -> None:
        self._now_ns = 1_000_000_000
        self._due: list[tuple[int, int, _Repeated]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        """As `Clock.now_ns`."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """As `Clock.sleep`; no time passes outside of it."""
        until = self._now_ns + max(0, round(seconds * 1e9))
        while self._due and self._due[0][0] <= until:
            due, _, repeated = heapq.heappop(self._due)
            if repeated.stopped:
                continue
            self._now_ns = max(self._now_ns, due)
            repeated.tick()
            heapq.heappush(self._due, (due + repeated.period_ns, next(self._order), repeated))
        self._now_ns = until

    def every(self, period_s: float, tick: Callable[[], None]) -> Repeating:
        """As `Clock.every`; the first call is made at once."""
        repeated = _Repeated(round(period_s * 1e9), tick)
        tick()
        heapq.heappush(self._due, (self._now_ns + repeated.period_ns, next(self._order), repeated))
        return repeated


@dataclass(eq=False)
class _Repeated:
    period_ns: int
    tick: Callable[[], None]
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


@dataclass(frozen=True)
class Load:
    """What the board draws.

    Args:
        idle_w: With nothing to do.
        work_w: More than that while it infers, in the mean over an inference.
        latency_s: Of an inference.
        duty: The part of an inference in which all of that is drawn, at its end; before it the board waits for pictures
            to be prepared, say.
        jitter: Standard deviation of the latency, as a part of it.
        wander_w: Standard deviation of a slow chance change of the idle power, which lasts some seconds.
        noise_w: Standard deviation of the sensor's own noise, white.
        drift_w_per_s: By which the idle power rises.
    """

    idle_w: float = 4.8
    work_w: float = 4.5
    latency_s: float = 0.025
    duty: float = 0.7
    jitter: float = 0.03
    wander_w: float = 0.03
    noise_w: float = 0.02
    drift_w_per_s: float = 0.0


@dataclass
class _Course:
    """True energy over time, of everything and of what is not work; between two entries power is constant."""

    at_ns: list[int] = field(default_factory=list)
    total_j: list[float] = field(default_factory=list)
    idle_j: list[float] = field(default_factory=list)

    def energy(self, values: list[float], at_ns: int) -> float:
        right = min(max(bisect_right(self.at_ns, at_ns), 1), len(self.at_ns) - 1)
        left = right - 1
        part = (at_ns - self.at_ns[left]) / max(1, self.at_ns[right] - self.at_ns[left])
        return values[left] + part * (values[right] - values[left])


class SimulatedBoard:
    """Writes a board's device tree and sensor files under a root, and rewrites them as time passes.

    ``jetson-orin-nano``: INA3221, 5 mOhm shunts (8 mA steps, 40 mW at 5 V), a new value every 13 ms (77 Hz).
    ``jetson-agx-thor``: INA238 for the input, a new mean every 50 ms, beside an INA3221 of 2 mOhm (20 mA steps).
    ``generic-x86_64``: an energy counter of RAPL in steps of 61 uJ that wraps around every some hundred joules. Steps
    and rates are those of the boards; docs/power.md names their sources.

    Args:
        root: An empty folder.
        clock: Time; a `SimulatedClock`, or the system's, on which the files are rewritten by a thread.
        kind: Which board.
        load: What it draws.
        seed: Of every chance.
    """

    def __init__(self, root: Path, clock: Clock, kind: Kind = "jetson-orin-nano", load: Load | None = None,
                 seed: int = 0) -> None:  # fmt: skip
        self.root = root
        self.clock = clock
        self.kind = kind
        self.load = Load() if load is None else load
        self._chance = random.Random(seed)  # noqa: S311  a course that can be had again, no secret
        self._lock = threading.RLock()
        self._descriptors: dict[str, int] = {}
        self._busy = False
        self._wander_w = 0.0
        self._course = _Course()
        self._began_ns = self._last_ns = clock.now_ns()
        self._total_j = self._idle_j = 0.0
        self._shown_ns = self._last_ns
        self._frozen = False
        for path, text in _FILES[kind].items():
            self.write(path, text)
        self._note()
        self._refreshing = clock.every(_REFRESH_S[kind], self._refresh)

    @property
    def target(self) -> Target:
        """Its table."""
        return load(self.kind)

    def infer(self) -> None:
        """One inference: draws `Load.work_w` more for `Load.latency_s`."""
        seconds = self.load.latency_s * max(0.2, 1 + self._chance.gauss(0, self.load.jitter))
        self.clock.sleep(seconds * (1 - self.load.duty))
        with self._lock:
            self._pass()
            self._busy = True
        self.clock.sleep(seconds * self.load.duty)
        with self._lock:
            self._pass()
            self._busy = False

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """The true energy between two times of the clock."""
        return self._between(self._course.total_j, start_ns, end_ns)

    def idle_energy_j(self, start_ns: int, end_ns: int) -> float:
        """That of it which was no work."""
        return self._between(self._course.idle_j, start_ns, end_ns)

    def write(self, path: str, value: str | int) -> None:
        """Writes a file of the tree, such as ``/sys/class/thermal/thermal_zone0/temp``; who has it open reads it."""
        if path not in self._descriptors:
            file = self.root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptors[path] = os.open(file, os.O_RDWR | os.O_CREAT)
        text = value if isinstance(value, str) else f"{value:<{_WIDTH}d}"
        os.pwrite(self._descriptors[path], text.encode(), 0)

    def throttle(self, active: bool = True) -> None:
        """Sets or clears the alert of a Jetson."""
        self.write("/sys/class/thermal/cooling_device0/cur_state", int(active))

    def break_sensor(self) -> None:
        """Its files are empty from now on."""
        with self._lock:
            self._frozen = True
            for path in _VALUES[self.kind]:
                os.ftruncate(self._descriptors[path], 0)

    def mend_sensor(self) -> None:
        """Its files have values again."""
        with self._lock:
            self._frozen = False

    def freeze_sensor(self) -> None:
        """Its files keep the values that they have."""
        with self._lock:
            self._frozen = True

    def close(self) -> None:
        """Stops it and closes its files; may be called twice."""
        self._refreshing.stop()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def __enter__(self) -> SimulatedBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- time -------------------------------------------------------------------------------------

    def _idle_w(self) -> float:
        seconds = (self._last_ns - self._began_ns) / 1e9
        return self.load.idle_w + self.load.drift_w_per_s * seconds + self._wander_w

    def _pass(self) -> None:
        """Adds what was drawn since the last time; power was constant."""
        now = self.clock.now_ns()
        seconds = (now - self._last_ns) / 1e9
        idle_w = self._idle_w()
        self._idle_j += idle_w * seconds
        self._total_j += (idle_w + self.load.work_w / self.load.duty * self._busy) * seconds
        self._last_ns = now
        self._note()

    def _note(self) -> None:
        self._course.at_ns.append(self._last_ns)
        self._course.total_j.append(self._total_j)
        self._course.idle_j.append(self._idle_j)

    def _between(self, values: list[float], start_ns: int, end_ns: int) -> float:
        with self._lock:
            self._pass()
            return self._course.energy(values, end_ns) - self._course.energy(values, start_ns)

    def _refresh(self) -> None:
        """The sensor shows the mean power of its conversion, which may be only a part of the time since it last did."""
        with self._lock:
            self._pass()
            seconds = (self._last_ns - self._shown_ns) / 1e9
            if seconds > 0 and not self._frozen:
                looked_s = _INA3221_S if self.kind == "jetson-orin-nano" else seconds
                before = self._course.energy(self._course.total_j, self._last_ns - int(looked_s * 1e9))
                mean_w = (self._total_j - before) / looked_s + self._chance.gauss(0, self.load.noise_w)
                self._show(max(mean_w, 0.0))
            self._shown_ns = self._last_ns
            keep = max(0.0, 1 - seconds / _WANDER_S)
            self._wander_w = keep * self._wander_w + self._chance.gauss(0, self.load.wander_w) * (1 - keep**2) ** 0.5

    def _show(self, mean_w: float) -> None:
        if self.kind == "jetson-orin-nano":
            _show_ina3221(self.write, "/sys/class/hwmon/hwmon1", {1: (5.0, mean_w), 2: (5.0, 0.3 * mean_w)}, 0.008)
        elif self.kind == "jetson-agx-thor":
            self.write("/sys/class/hwmon/hwmon5/power1_input", round(mean_w * 1e6 / 4000) * 4000)
            rails = {1: (12.0, 0.2 * mean_w), 2: (12.0, 0.3 * mean_w), 3: (5.0, 0.3 * mean_w)}
            _show_ina3221(self.write, "/sys/class/hwmon/hwmon3", rails, 0.020)
        else:
            counted = round(self._total_j * 1e6 / 61) * 61 % _RAPL_RANGE_UJ
            self.write("/sys/class/powercap/intel-rapl:0/energy_uj", counted)


def _show_ina3221(
    write: Callable[[str, int], None], folder: str, rails: Mapping[int, tuple[float, float]], step_a: float
) -> None:
    """Voltage in steps of 8 mV, current in the shunt's, as the chip's registers have them."""
    for channel, (volts, watts) in rails.items():
        millivolts = round(volts * 1000 / 8) * 8
        write(f"{folder}/in{channel}_input", millivolts)
        write(f"{folder}/curr{channel}_input", round(round(watts / (millivolts / 1000) / step_a) * step_a * 1000))


_REFRESH_S: Mapping[Kind, float] = {"jetson-orin-nano": 0.012987, "jetson-agx-thor": 0.0505, "generic-x86_64": 0.002}
_RAPL_RANGE_UJ = 262_143_328
_THERMAL = {
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "51187\n",
    "/sys/class/thermal/cooling_device0/type": "gpu-throttle-alert\n",
    "/sys/class/thermal/cooling_device0/cur_state": "0\n",
    "/sys/class/thermal/cooling_device0/max_state": "1\n",
}


def _ina3221(folder: str, labels: tuple[str, ...], shunt_uohm: int) -> dict[str, str]:
    files = {f"{folder}/name": "ina3221\n"}
    for channel, label in enumerate(labels, 1):
        files[f"{folder}/in{channel}_label"] = f"{label}\n"
        files[f"{folder}/in{channel}_input"] = "0".ljust(_WIDTH)
        files[f"{folder}/curr{channel}_input"] = "0".ljust(_WIDTH)
        files[f"{folder}/shunt{channel}_resistor"] = f"{shunt_uohm}\n"
    return files


_FILES: Mapping[Kind, Mapping[str, str]] = {
    "jetson-orin-nano": {
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        **_ina3221("/sys/class/hwmon/hwmon1", ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 5000),
        **_THERMAL,
    },
    "jetson-agx-thor": {
        "/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "/proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
        **_ina3221("/sys/class/hwmon/hwmon3", ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), 2000),
        "/sys/class/hwmon/hwmon5/name": "ina238\n",
        "/sys/class/hwmon/hwmon5/power1_input": "0".ljust(_WIDTH),
        **_THERMAL,
    },
    "generic-x86_64": {
        "/sys/class/powercap/intel-rapl:0/name": "package-0\n",
        "/sys/class/powercap/intel-rapl:0/max_energy_range_uj": f"{_RAPL_RANGE_UJ}\n",
        "/sys/class/powercap/intel-rapl:0/energy_uj": "0".ljust(_WIDTH),
        **_THERMAL,
    },
}
_VALUES: Mapping[Kind, tuple[str, ...]] = {
    kind: tuple(path for path in files if path.endswith(("_input", "energy_uj"))) for kind, files in _FILES.items()
}
