"""Controlled studies, one file each; a file's docstring is its study description."""
