"""Load under a random fault schedule, judged by a history checker: `python -m tests.soak`."""
