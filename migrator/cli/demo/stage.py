"""What the audience sees: steps with the time they happened, the commands, and a line of figures.

On a terminal the last line lives; elsewhere there are plain lines. All of it is talk, on stderr:
the closing table is the result.
"""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from migrator.cli.demo.judge import Loss, Scores

_REFRESHES_PER_SECOND = 4
_INDENT = " " * 9
_MOST_LINES = 14


class Stage:
    """Prints the play, and keeps its clock."""

    def __init__(self, scores: Scores, console: Console | None = None) -> None:
        self.scores = scores
        self.phase = "the app as it was"
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._live: Live | None = None

    @property
    def elapsed_s(self) -> float:
        """Since the curtain rose."""
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._figures,
                console=self._console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, sentence: str) -> None:
        """Something happens now."""
        self._print(f"{self.elapsed_s:6.1f} s ", sentence, style="bold")

    def detail(self, sentence: str) -> None:
        """Something about it."""
        self._print(_INDENT, sentence)

    def command(self, line: str) -> None:
        """What an operator would type."""
        self._print(f"{self.elapsed_s:6.1f} s ", f"$ {line}", style="cyan")

    def output(self, text: str) -> None:
        """What a command answered, cut to what fits a screen."""
        lines = [line for line in text.splitlines() if line.strip()]
        for line in lines[:_MOST_LINES]:
            self._print(_INDENT, line.rstrip(), style="dim")
        if len(lines) > _MOST_LINES:
            self._print(_INDENT, f"… {len(lines) - _MOST_LINES} more lines", style="dim")

    def _print(self, stamp: str, sentence: str, *, style: str = "") -> None:
        self._console.print(Text.assemble((stamp, "dim"), (sentence, style)))

    def _figures(self) -> Text:
        scores = self.scores
        out = scores.losses[Loss.UNINTENDED]
        return Text.assemble(
            (f"{self.elapsed_s:6.1f} s ", "dim"),
            (f"{self.phase} ", "bold magenta"),
            f"· {scores.requests:,} requests · {scores.swaps} swaps "
            f"· {scores.exchanges} exchanges · {scores.losses[Loss.REVOKED]} revoked on purpose "
            "· logged out unintentionally ",
            (str(out), "bold red" if out else "bold green"),
        )
