"""Decides the precision of every layer; installed as ``edge_sdk.calibration``.

Calibration here means choosing quantization ranges and precisions from sample photos. It is not
camera (lens) calibration. The planner has not landed yet: this package holds its place in the
import order (errors, targets <- edge_sdk <- calibration), which a test guards.
"""
