"""Making sessions of a ledger: the old system's own list of the tokens it issued.

`simplejwt`, `table`, `jsonl` and `csv_file` each read one kind of ledger into the rows of `rows`;
`plant` says what becomes of a row, in SQL; `job` keeps the checkpoint; `runner` goes through it.
"""
