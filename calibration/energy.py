"""What an inference of each candidate draws, read from a power sensor while the files run in turns.

The energy is gross: of the whole board, or of what its sensor covers, idle power included, over a stretch in which
inferences follow each other without a pause. So a file that is twice as fast is also charged half of the idle power,
as on a board that sleeps or works on when it is done. What the work alone draws, and with which interval, `edge-sdk
profile` measures, in minutes a file.

Files take turns in rounds, so that a board that warms up does so under all of them; the median round counts. Every turn
is kept as soon as it is over: a run that is stopped goes on there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from edge_sdk.backends.base import named
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.outcome import Candidate
from edge_sdk.calibration.timing import LocalTimer
from edge_sdk.device import this_device
from edge_sdk.errors import SensorError
from edge_sdk.measure.meter import PowerMeter
from edge_sdk.measure.turns import noise
from edge_sdk.sensors.base import Sensor
from edge_sdk.sensors.power import Power, open_power

ROUNDS = 3
LEAST_S = 1.0
_REFRESHES = 25  # of the sensor's values in a turn: its own steps then weigh little
_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class EnergyMeter:
    """Reads this machine's power sensor while files run.

    Args:
        sensor: One that the user names; None is the board's own. See `edge_sdk.sensors.power.open_power`.
        options: For its driver.
        threads: Inside one inference; the planner takes its request's.
    """

    sensor: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1

    def check(self) -> str:
        """What the figures will be of, in a line for the report.

        Raises:
            SensorError: There is no sensor to read; the message says why.
            UsageError: No driver has that name, or an option means nothing to it.
        """
        with self._opened() as power:
            method = next(one.method for one in _main(power).channels if one.in_total)
            covers = power.covers or "what the sensor covers"
            return f"energy is of {covers}, idle power included, by {_main(power).name} ({method})"

    def of(
        self,
        candidates: Sequence[Candidate],
        files: Mapping[str, Path],
        cache: Cache,
        *,
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[Candidate, ...]:
        """The candidates with their energy. A turn that was kept before is not run again.

        Args:
            candidates: What was built.
            files: By candidate's name.
            cache: Of the turns.
            progress: Called with (turns done, of how many).
            stop: True ends it after the round that is on.

        Raises:
            SensorError: The sensor gave nothing to count with, or not the same in every turn.
            BackendError: A file cannot be opened or run.
        """
        turns: dict[str, list[float]] = {one.name: [] for one in candidates}
        methods = set()
        with self._opened() as power:
            seconds = max(LEAST_S, _REFRESHES * _main(power).refresh_s)
            facts = {
                "what": "energy 2", "on": LocalTimer(threads=self.threads).on, "sensor": self.sensor,
                "named": _main(power).name, "options": dict(self.options), "seconds": seconds,
            }  # fmt: skip
            digests = {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in turns}
            for number in range(ROUNDS):
                for place, name in enumerate(list(turns)[:: -1 if number % 2 else 1]):
                    key = Cache.key({**facts, "file": digests[name], "round": number})
                    known = cache.get(key)
                    if known is None:
                        known = cache.put(key, self._turn(files[name], power, seconds))
                    turns[name].append(known["mj"])
                    methods.add(known["method"])
                    if progress is not None:
                        progress(number * len(turns) + place + 1, ROUNDS * len(turns))
                if stop():
                    break
        if len(methods) > 1:
            raise SensorError(f"the sensor gave {' and '.join(sorted(methods))} in turn: its figures do not compare")
        return tuple(replace(one, energy_mj=median(turns[one.name])) for one in candidates)

    def _turn(self, file: Path, power: Power, seconds: float) -> dict[str, float | str]:
        backend, _ = named("onnxruntime")
        session = backend.open(file, this_device().target, threads=self.threads, options={})
        try:
            feeds = noise(session)  # as when latency is measured
            for _ in range(_WARM_UP_RUNS):
                session.run(feeds)
            runs, end = 0, time.monotonic() + seconds
            with PowerMeter(power=power) as meter:
                while time.monotonic() < end:
                    session.run(feeds)
                    runs += 1
            measured = meter.measured
        finally:
            session.close()
        if measured.energy_mj is None or measured.method is None:
            raise SensorError(f"no energy could be read: {measured.reason or 'the sensor gave no values'}")
        return {"mj": measured.energy_mj / runs, "method": measured.method}

    def _opened(self) -> Power:
        power = open_power(self.sensor, options=self.options)
        if power.reason is not None or power.main is None:
            power.close()
            raise SensorError(f"a budget of energy needs a power sensor: {power.reason or 'there is none here'}")
        return power


def _main(power: Power) -> Sensor:
    assert power.main is not None  # noqa: S101  it has been looked at
    return power.main
