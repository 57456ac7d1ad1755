"""Computes tables, statistics and verdicts from records; imports no torch."""
