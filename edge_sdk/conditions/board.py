"""Which family a machine belongs to, as far as its conditions depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edge_sdk.targets.evidence import Tree

_COMPATIBLE = ("/proc/device-tree/compatible", "/sys/firmware/devicetree/base/compatible")
_JETSON_FILES = ("/etc/nvpmodel.conf", "/etc/nv_tegra_release")

Family = Literal["jetson", "raspberry-pi"]


def family(root: Path) -> Family | None:
    """ "jetson" where there is `nvpmodel`, "raspberry-pi" where there is `vcgencmd`, else None.

    A container often sees the device tree and not /etc, or the other way round: either is enough.
    """
    tree = Tree(root)
    compatible = next((strings for path in _COMPATIBLE if (strings := tree.strings(path))), ())
    if any(one.startswith("raspberrypi,") for one in compatible):
        return "raspberry-pi"
    if any(one.startswith(("nvidia,tegra", "nvidia,p", "nvidia,jetson")) for one in compatible):
        return "jetson"
    return "jetson" if any(tree.read(path) for path in _JETSON_FILES) else None
