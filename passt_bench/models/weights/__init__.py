"""Weights: reading without executing pickles, fitting and saving."""
