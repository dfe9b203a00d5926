"""What a fit of a board's own power to a meter is made of."""

from __future__ import annotations

import threading

import pytest

from edge_sdk.errors import SensorError
from edge_sdk.measure.power_fit import keep_busy, levels, measure_points
from edge_sdk.sensors.base import Absent, Channel
from edge_sdk.sensors.pmic_fit import fit_line
from edge_sdk.testing.simulated_board import SimulatedClock


def busy():
    return sum(thread.name == "edge-sdk-load" for thread in threading.enumerate())


class Scripted:
    """A sensor that shows a power for each number of busy cores."""

    def __init__(self, power, refresh_s=0.1):
        self.name = "scripted"
        self.channels = (Channel("sum", "power", "sensor_partial", True),)
        self.refresh_s = refresh_s
        self.power = power

    def read(self):
        return (self.power(busy()),)

    def close(self):
        pass


def test_both_are_read_at_each_load_and_the_line_through_them_is_found():
    told = []

    points = measure_points(
        Scripted(lambda cores: 3.0 + cores),
        Scripted(lambda cores: 1.2 * (3.0 + cores) + 0.5, refresh_s=1.0),
        busy=(0, 1, 2),
        clock=SimulatedClock(),
        told=lambda place, count: told.append((place, count)),
    )

    assert [(one.busy, round(one.board_w, 6), round(one.meter_w, 6)) for one in points] == [
        (0, 3.0, 4.1), (1, 4.0, 5.3), (2, 5.0, 6.5),
    ]  # fmt: skip
    fit = fit_line((one.board_w, one.meter_w) for one in points)
    assert (fit.slope, fit.intercept_w) == (pytest.approx(1.2), pytest.approx(0.5))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_meter_that_gives_nothing_ends_it_with_its_reason():
    with pytest.raises(SensorError, match=r"scripted: .*unplugged"):
        measure_points(
            Scripted(lambda _: 3.0), Scripted(lambda _: Absent("unplugged")), busy=(0,), clock=SimulatedClock()
        )


def test_cores_are_busy_only_while_the_block_runs():
    with keep_busy(2):
        assert busy() == 2
    assert busy() == 0


@pytest.mark.parametrize(
    ("cores", "expected"), [(4, (0, 1, 2, 3, 4)), (1, (0, 1)), (8, (0, 2, 4, 6, 8)), (2, (0, 1, 2))]
)
def test_loads_go_from_nothing_to_every_core(cores, expected):
    assert levels(cores) == expected
