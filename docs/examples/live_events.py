"""What a camera tells when it is unplugged and comes back; a stand-in takes its place: live_events.py [MODEL]."""

import sys
import threading

import numpy as np

import edge_sdk
from edge_sdk.testing.fake_source import FakeDevice

model = sys.argv[1] if len(sys.argv) > 1 else "nanodet-m"

device = FakeDevice([np.zeros((480, 640, 3), np.uint8)], fps=30)
threading.Timer(1.0, device.unplug).start()
threading.Timer(2.0, device.plug).start()


def tell(event: edge_sdk.Event) -> None:
    print(f"{event.previous} -> {event.state}: {event.reason or 'as it should be'}")


with edge_sdk.Camera(device, model, on_event=tell) as camera:
    for result in camera.detect(seconds=5):
        pass  # no result comes while the camera is away

stats = camera.stats
print(f"{stats.reconnects} reconnection, {stats.processed} results of {stats.captured} frames, {dict(stats.dropped)}")
