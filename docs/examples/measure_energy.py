"""What detecting in one photo a hundred times costs: measure_energy.py [PHOTO] [MODEL]."""

import sys

import cv2

import edge_sdk

photo = cv2.imread(sys.argv[1] if len(sys.argv) > 1 else "photo.jpg")
detector = edge_sdk.Detector(sys.argv[2] if len(sys.argv) > 2 else None)

with edge_sdk.PowerMeter() as meter:
    for _ in range(100):
        detector(photo)

if meter.energy_mj is None:
    print("no energy:", meter.reason)
else:
    print(f"{meter.energy_mj / 100:.1f} mJ a detection, {meter.mean_w:.2f} W ({meter.method}: {meter.covers})")
