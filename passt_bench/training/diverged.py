"""The failure that only training knows: numbers that are no longer finite."""

from __future__ import annotations


class Diverged(RuntimeError):
    """The loss, or what the trained model answers, is no longer finite."""
