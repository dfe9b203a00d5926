"""Calibrates with a range method of one's own: calibrate_own_range.py [MODEL] [PHOTOS] [SECONDS]."""

import sys

import edge_sdk
from edge_sdk.calibration.histogram import Histogram

model = sys.argv[1] if len(sys.argv) > 1 else "yolox_nano.onnx"
photos = sys.argv[2] if len(sys.argv) > 2 else "photos"
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else None


def nine_tenths(histogram: Histogram) -> tuple[float, float]:
    """Cuts a tenth off both ends of what was seen. It is taken where it makes the least squared error."""
    return 0.9 * histogram.low, 0.9 * histogram.high


plan = edge_sdk.calibrate(model, photos, range_method=nine_tenths, time_budget_s=seconds)
print(f"{len(plan.ranges)} ranges")
