"""How fast the pipeline is: load, phases, baselines and their report. `python -m fraudstream bench`."""
