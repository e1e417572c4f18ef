"""Brownouts, the operator's side: scheduling them, and what they taught.

rows.py reads them; asking.py says which may be scheduled; scheduling.py writes, under a new epoch;
forecasting.py and teaching.py say whom they would meet and how those came back.
"""
