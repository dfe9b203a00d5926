"""Everything that yields a figure with a method."""
