"""Running studies: plan, cells in processes of their own, cost sessions, MLflow, search."""
