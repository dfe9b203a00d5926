"""COCO results of a folder; goes on when it is run again: resume_coco.py [PHOTOS] [MODEL]."""

import sys
from pathlib import Path

import edge_sdk
from edge_sdk.sinks.coco import CocoSink
from edge_sdk.sinks.journal import Journal, run_header

photos = sys.argv[1] if len(sys.argv) > 1 else "photos/"
model = sys.argv[2] if len(sys.argv) > 2 else None

results = Path("found.json")
with edge_sdk.Camera(photos, model) as camera:
    journal = Journal.open(results, run_header(camera.detector, photos, "coco"))
    finished = camera.source.skip(journal.done)
    print(finished, "photos were finished before")
    names = camera.detector.class_names
    sink = CocoSink(results, names, source=photos, journal=journal)
    for result in camera.detect(sinks=[sink]):
        print(result.frame.source, len(result.detections))
sink.finish()  # the source has ended: the journal becomes the file
