"""Where rejected rows go: a row's name in its ledger and the reason, one JSON object a line.

Never a token, never a claim. Lines are written before their page is committed, so after a crash a
row can stand there twice, and none is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from migrator.control.backfill import refusals

MOST_EXAMPLES: Final = 10


@dataclass(slots=True)
class Rejects:
    """Takes rejected rows.

    Args:
        file: where they are written; None: they are only counted.
        examples: the first of them, for the report.
    """

    file: TextIO | None = None
    examples: list[tuple[str, str]] = field(default_factory=list)

    def take(self, rejected: Iterable[tuple[str, str]]) -> None:
        """Keep the (key, reason) of rows, on disk when this returns."""
        for key, reason in rejected:
            if len(self.examples) < MOST_EXAMPLES:
                self.examples.append((key, reason))
            if self.file is not None:
                self.file.write(json.dumps({"row": key, "reason": reason}) + "\n")
        if self.file is not None:
            self.file.flush()


@contextmanager
def opened(path: Path | None, *, go_on: bool) -> Iterator[Rejects]:
    """Rejects that go to `path`; a run that goes on adds to what is there.

    Raises:
        Stopped: USAGE, it cannot be written.
    """
    if path is None:
        yield Rejects()
        return
    try:
        file = path.open("a" if go_on else "w", encoding="utf-8")
    except OSError as error:
        raise refusals.no_rejects(str(path), error.strerror or "") from error
    with file:
        yield Rejects(file)
