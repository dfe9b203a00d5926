"""What measures power: one file a chip, interface or meter."""
