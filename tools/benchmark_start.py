"""How quickly the SDK starts, as medians in turns and as ratios to bare Python.

    python tools/benchmark_start.py

Goals: ``import edge_sdk`` under 100 ms beyond bare Python, ``edge-sdk --help`` under 300 ms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np

COMMANDS = {
    "bare python": ["-c", "pass"],
    "import edge_sdk": ["-c", "import edge_sdk"],
    "edge-sdk --help": ["-m", "edge_sdk", "--help"],
    "import numpy, cv2, onnxruntime": ["-c", "import numpy, cv2, onnxruntime"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.turns):
        for name, words in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - began) * 1000)
    bare = float(np.median(times["bare python"]))
    rows = {name: {"p50_ms": float(np.median(t)), "of_bare": float(np.median(t)) / bare} for name, t in times.items()}
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        print(f"{name:<32} p50 {row['p50_ms']:6.1f} ms   {row['of_bare']:5.1f} x bare python")


if __name__ == "__main__":
    main()
