"""Where results go; `edge_sdk.sinks.base` has the protocol."""
