"""One file an output layout; `edge_sdk.models.heads.base` has the protocol and the registry."""
