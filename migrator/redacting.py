"""What `migrator` logs, without whatever looks like a credential: the last line of defence.

Nothing of ours logs a credential (tests/lint.py). But an exception's text is somebody else's, a
library logs what it was given, and error trackers keep the variables of every frame. So each of
our loggers rewrites its own records before any handler sees them.
"""

from __future__ import annotations

import logging
import re
import traceback

REDACTED = "[redacted]"
# Ours (any prefix, 49 characters), and whatever has the shape of a JWT: a header and a payload
# begin `eyJ` because JSON objects do; a signature or a JWE's further parts may follow.
_TOKEN = re.compile(
    r"\b[A-Za-z][A-Za-z0-9]*_[0-9A-Za-z]{49}\b|\beyJ[\w-]{5,}(?:\.[\w-]*)+=*|"
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{16,}"
)


def redacted(text: str) -> str:
    """The text without what looks like a credential."""
    return _TOKEN.sub(REDACTED, text)


class Redacting(logging.Filter):
    """Takes credentials out of a record: its message, its extra fields, its traceback.

    The traceback becomes text: what `exc_info` leads to holds the variables of every frame.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, rewritten."""
        record.msg, record.args = redacted(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redacted("".join(traceback.format_exception(record.exc_info[1])))
            record.exc_text = record.exc_text.rstrip("\n")
        record.exc_info = None
        for name, value in vars(record).items():
            if name not in _OWN and isinstance(value, str):
                setattr(record, name, redacted(value))
        return True


_OWN = frozenset({"msg", "exc_text"})
_REDACTING = Redacting()


def logger(name: str) -> logging.Logger:
    """The logger of that name, which says no credential."""
    made = logging.getLogger(name)
    made.addFilter(_REDACTING)  # once, however often it is asked for
    return made
