"""Where pictures come from; `edge_sdk.sources.base` has the protocol, the registry and the grammar."""
