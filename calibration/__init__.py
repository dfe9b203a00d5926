"""Decides the precision of every layer; installed as ``edge_sdk.calibration``.

Calibration here means choosing quantization ranges and precisions from sample photos. It is not
camera (lens) calibration. The parts are here that a planner stands on: photos (`dataset`), the
canonical graph and its float rewrites (`canonical`, `rewrites`), ranges (`ranges`), INT8 numerics
that can be switched (`switchable`) and what they do to detections (`score`), and the cache. The
planner itself, and the command, have not landed yet.
"""
