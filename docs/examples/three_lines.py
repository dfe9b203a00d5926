import edge_sdk

for result in edge_sdk.Camera("demo").detect(frames=30):
    print(result.detections, f"{result.timing.total_ms:.0f} ms")
