"""What a board is doing while it is measured: temperatures, throttling, clocks, power mode, load, memory."""
