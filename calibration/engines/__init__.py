"""What each engine fuses and allows, how a plan becomes its file, and how that file is read back."""
