"""Marks of recipe fields: which of them decide a result, and since when."""

from __future__ import annotations


class Free:
    """Mark of a field that does not decide the quality of a run (see `spec.key`)."""


class Later:
    """Mark of a field that enters a key only where it differs from its default."""


FREE = Free()
LATER = Later()
