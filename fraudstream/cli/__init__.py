"""The verbs of `python -m fraudstream` that have a noun before them, a module for each noun."""
