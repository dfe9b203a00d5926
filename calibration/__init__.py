"""Decides the precision of every layer; installed as ``edge_sdk.calibration``.

Calibration here means choosing quantization ranges and precisions from sample photos. It is not camera (lens)
calibration. `planner` is the way in; its rooms, in the order of a run: photos (`dataset`), the canonical graph and its
float rewrites (`canonical`, `rewrites`), ranges (`ranges`, `policies`), repairs of weights (`repairs`), the problem
with its masks (`problem`, `engines`), INT8 numerics that can be switched (`switchable`) and what they do to detections
(`score`, `probing`, `sensitivity`, `surrogate`), time (`timing`, `costs`), the front (`solver`, `search`), real files
(`verification`, `choice`), what is handed over (`handover`, `report`, `export`), and the cache beneath all of it.
"""
