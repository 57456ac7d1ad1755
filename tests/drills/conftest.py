"""Hands out the longest files first, so that nobody waits at the end for a file begun last."""

import pytest

LONGEST_FIRST = (
    "test_kills", "test_mlflow", "test_readme_commands", "test_kills_command",
    "test_current_folder", "test_plugins", "test_compiled_training", "test_search_kill",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
