"""Counts who goes through a door, and publishes it: publish_mqtt.py [SOURCE] [BROKER] [MODEL]."""

import sys

import edge_sdk
from edge_sdk.sinks.mqtt import MqttSink

source = sys.argv[1] if len(sys.argv) > 1 else "0"
broker = sys.argv[2] if len(sys.argv) > 2 else "mqtt://user:secret@broker/edge/door"
model = sys.argv[3] if len(sys.argv) > 3 else None

door = edge_sdk.Line("door", (0.5, 0), (0.5, 1))
with edge_sdk.Camera(
    source,
    model,
    classes=["person"],
    track=True,
    lines=[door],
) as camera:
    sink = MqttSink(broker, camera.detector.class_names)
    for _ in camera.detect(sinks=[sink]):
        pass
    print(camera.stats.sinks[sink.name])
