"""What an inference of each candidate draws, read from a power sensor while the files run in turns.

The energy is gross: of the whole board, or of what its sensor covers, idle power included, over a stretch in which
inferences follow each other without a pause. So a file that is twice as fast is also charged half of the idle power,
as on a board that sleeps or works on when it is done. What the work alone draws, and with which interval, `edge-sdk
profile` measures, in minutes a file.

Files take turns in rounds, so that a board that warms up does so under all of them; the median round counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from edge_sdk.backends.base import Session, named
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.outcome import Candidate
from edge_sdk.device import this_device
from edge_sdk.errors import SensorError
from edge_sdk.measure.meter import PowerMeter
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
        threads: Inside one inference.
    """

    sensor: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1

    def check(self) -> str:
        """What the figures cover, in words.

        Raises:
            SensorError: There is no sensor to read; the message says why.
            UsageError: No driver has that name, or an option means nothing to it.
        """
        with self._opened() as power:
            return power.covers or "what the sensor covers"

    def measure(
        self, files: Mapping[str, Path], *, progress: Callable[[int, int], None] | None = None
    ) -> Mapping[str, float]:
        """Millijoules of an inference, by name.

        Args:
            files: The engine's files.
            progress: Called with (turns done, of how many).

        Raises:
            SensorError: The sensor gave nothing to count with.
            BackendError: A file cannot be opened or run.
        """
        turns: dict[str, list[float]] = {name: [] for name in files}
        done, total = 0, ROUNDS * len(files)
        backend, _ = named("onnxruntime")
        with ExitStack() as stack:
            power = stack.enter_context(self._opened())
            assert power.main is not None  # noqa: S101  it has been looked at
            seconds = max(LEAST_S, _REFRESHES * power.main.refresh_s)
            sessions: dict[str, Session] = {}
            for name, path in files.items():
                session = backend.open(path, this_device().target, threads=self.threads, options={})
                stack.callback(session.close)
                sessions[name] = session
            meter = stack.enter_context(PowerMeter(power=power))
            for number in range(ROUNDS):
                order = list(sessions)[::-1] if number % 2 else list(sessions)
                for name in order:
                    turns[name].append(_turn(sessions[name], meter, seconds))
                    done += 1
                    if progress is not None:
                        progress(done, total)
        return {name: median(found) for name, found in turns.items()}

    def of(
        self,
        candidates: Sequence[Candidate],
        files: Mapping[str, Path],
        cache: Cache,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Candidate, ...]:
        """The candidates with their energy. A file that was measured before with this sensor is not measured again.

        Args:
            candidates: What was built.
            files: By candidate's name.
            cache: Of the figures.
            progress: Called with (turns done, of how many).

        Raises:
            SensorError, BackendError: As `measure` raises them.
        """
        digests = {one.name: hashlib.sha256(files[one.name].read_bytes()).hexdigest() for one in candidates}
        facts = {
            "what": "energy 1", "sensor": self.sensor, "options": dict(self.options), "threads": self.threads,
            "target": this_device().target.name,
        }  # fmt: skip
        keys = {name: Cache.key({**facts, "file": digest}) for name, digest in digests.items()}
        wanted = {name: files[name] for name, key in keys.items() if cache.get(key) is None}
        if wanted:
            for name, energy in self.measure(wanted, progress=progress).items():
                cache.put(keys[name], energy)
        return tuple(replace(one, energy_mj=cache.get(keys[one.name])) for one in candidates)

    def _opened(self) -> Power:
        power = open_power(self.sensor, options=self.options)
        if power.reason is not None or power.main is None:
            power.close()
            raise SensorError(f"a budget of energy needs a power sensor: {power.reason or 'there is none here'}")
        return power


def _turn(session: Session, meter: PowerMeter, seconds: float) -> float:
    feeds = session.new_feeds()
    for _ in range(_WARM_UP_RUNS):
        session.run(feeds)
    meter.split()
    runs, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        session.run(feeds)
        runs += 1
    measured = meter.split()
    if measured.energy_mj is None:
        raise SensorError(f"no energy could be read: {measured.reason or 'the sensor gave no values'}")
    return measured.energy_mj / runs
