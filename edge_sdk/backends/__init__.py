"""Engines behind one face; `edge_sdk.backends.base` has the protocol and the registry."""
