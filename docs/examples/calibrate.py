"""The fastest precision of every layer, found on your own photos: calibrate.py [MODEL] [PHOTOS] [SECONDS]."""

import sys

import edge_sdk

model = sys.argv[1] if len(sys.argv) > 1 else "yolox_nano.onnx"
photos = sys.argv[2] if len(sys.argv) > 2 else "photos"
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else None  # the best that so much time gives

plan = edge_sdk.calibrate(model, photos, max_map_drop=0.005, time_budget_s=seconds, out="calibrated")
low = [choice.group for choice in plan.choices if choice.precision == "int8"]
print(f"{len(low)} of {len(plan.choices)} groups in INT8 on {plan.target}")

# The files are in the folder. A layer that you want otherwise is one edit away:
if low:
    print("written:", edge_sdk.export(model, plan.with_choice(low[0], "fp32"), "edited.onnx"))
