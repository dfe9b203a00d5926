"""The live loop's parts."""
