"""Repairs: weights and biases mended for the low precision, before any layer is given to float. One file a repair.

The float model stays as it is: what is repaired takes the place of plainly rounded weights in layers that end in the
low precision, and nowhere else.
"""

from edge_sdk.calibration.repairs.base import Arrays, Given, Repair, repairs
from edge_sdk.calibration.repairs.mended import (
    Judge,
    Mended,
    Trial,
    mend,
    mended_once,
    plain,
    prepared,
    weights_alone,
    with_arrays,
)
from edge_sdk.calibration.repairs.moments import Moments, collect_moments

__all__ = [
    "Arrays", "Given", "Judge", "Mended", "Moments", "Repair", "Trial", "collect_moments", "mend", "mended_once",
    "plain", "prepared", "repairs", "weights_alone", "with_arrays",
]  # fmt: skip
