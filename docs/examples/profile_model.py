"""Latency and energy per inference: profile_model.py [MODEL] [SECONDS]."""

import sys

import edge_sdk

model = sys.argv[1] if len(sys.argv) > 1 else None
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0

found = edge_sdk.profile(model, recipe=edge_sdk.Recipe(idle_s=seconds, work_s=seconds))

print(f"p50 {found.latency.percentiles_ms['p50']:.1f} ms, p99 {found.latency.percentiles_ms['p99']:.1f} ms")
if found.energy is None:
    print("no energy:", found.energy_reason)
elif found.energy.net_mj is None:
    print("no net energy:", found.energy.net_refused or "; ".join(found.energy.rejected))
else:
    net = found.energy.net_mj
    print(f"net {net.value:.1f} mJ ({net.low:.1f} to {net.high:.1f}), {found.energy.method}: {found.energy.covers}")
