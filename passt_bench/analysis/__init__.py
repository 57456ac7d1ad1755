"""From records to verdicts: tables, statistics, comparisons. Imports no torch."""
