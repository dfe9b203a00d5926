"""What a camera tells when it is unplugged and comes back: live_events.py [MODEL]."""

import sys
import threading

import numpy as np

import edge_sdk
from edge_sdk.testing.fake_source import FakeDevice

model = sys.argv[1] if len(sys.argv) > 1 else None


def tell(event: edge_sdk.Event) -> None:
    print(event.previous, "->", event.state, event.reason)


# Stands in for a camera.
device = FakeDevice([np.zeros((480, 640, 3), np.uint8)], fps=30)
with edge_sdk.Camera(device, model, on_event=tell) as camera:
    threading.Timer(1.0, device.unplug).start()
    threading.Timer(2.0, device.plug).start()
    for _ in camera.detect(seconds=5):
        pass  # no result comes while the camera is away

stats = camera.stats
print(f"{stats.reconnects} reconnection, {stats.processed} of {stats.captured} frames")
