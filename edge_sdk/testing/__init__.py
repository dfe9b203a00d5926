"""Doubles for tests, ours and yours, chosen explicitly and never by falling back."""
