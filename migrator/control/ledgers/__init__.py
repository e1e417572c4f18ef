"""The app's own blacklist and active flag, polled: what they name ends here too.

`poller.py` has the turns, one thread for each ledger of a node; one file for each kind of source
reads it; `stores/ledgers.py` writes what it says. `standing.py` tells how it goes. A source that
fails is a warning, and stops neither the pulse nor a request.
"""
