"""Watts beside each result, and joules at the end: power_in_loop.py [SOURCE] [MODEL]."""

import sys

import edge_sdk

source = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None

with edge_sdk.Camera(source, model) as camera:
    for result in camera.detect(seconds=5):
        if result.power is not None and result.power.value is not None:
            print(f"{result.power.value:.2f} W ({result.power.method})")

    energy = camera.stats.energy
    if energy is None or energy.energy_j is None:
        print("no energy:", camera.power_reason)
    else:
        print(f"{energy.energy_j:.1f} J, {energy.per_result_mj:.1f} mJ a result")
