"""A long run at a steady rate with faults at random: `python -m tests.soak --minutes 20`, or `make soak`."""
