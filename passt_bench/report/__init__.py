"""Renders tables, figures and pages from records; imports no torch."""
