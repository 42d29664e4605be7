"""The canonical record, verdicts, pairs, and records in other trainers' formats."""
