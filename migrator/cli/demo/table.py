"""The closing table: the zeros, what must have happened beside them, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from migrator.cli.demo.judge import Loss, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rehearsal came to.

    Args:
        ended_early: why it stopped before its end; None if it did not.
        adopted: backfilled rows whose token was used, as the database says.
        is_whole: false for a rehearsal done wrong on purpose: only its zeros are looked at.
    """

    scores: Scores
    users: int
    seconds: float
    adopted: int
    stragglers: Sequence[str]
    probed: Sequence[str]
    ended_early: str | None = None
    is_whole: bool = True

    def zeros(self) -> dict[str, int]:
        """What must be zero."""
        return {
            Loss.UNINTENDED.value: self.scores.losses[Loss.UNINTENDED],
            "revoked credentials admitted past the bound": self.scores.past_bound,
            "answers for the wrong user": self.scores.wrong_user,
            "unexpected answers (4xx, 5xx)": self.scores.errors.total(),
        }

    def deeds(self) -> dict[str, int]:
        """What must not be zero: a rehearsal that did nothing proves nothing."""
        return {
            "requests": self.scores.requests,
            "swaps (sessions adopted from an answer)": self.scores.swaps,
            "exchanges (sessions from the refresh route)": self.scores.exchanges,
            "adopted backfilled rows": self.adopted,
            Loss.EXPIRED.value: self.scores.losses[Loss.EXPIRED],
            Loss.REVOKED.value: self.scores.losses[Loss.REVOKED],
        }

    def faults(self) -> list[str]:
        """Why it failed; empty: it did not."""
        found = [] if self.ended_early is None else [self.ended_early]
        found += [f"{what}: {count}" for what, count in self.zeros().items() if count]
        if self.is_whole and self.ended_early is None:
            found += [f"no {what}" for what, count in self.deeds().items() if not count]
        return found

    def as_json(self) -> dict[str, object]:
        """The figures, for programs."""
        scores = self.scores
        return {
            "ok": not self.faults(),
            "faults": self.faults(),
            "users": self.users,
            "seconds": round(self.seconds, 1),
            "requests": scores.requests,
            "swaps": scores.swaps,
            "exchanges": scores.exchanges,
            "adopted_backfilled": self.adopted,
            "logged_out_unintentionally": scores.losses[Loss.UNINTENDED],
            "expired_by_own_exp": scores.losses[Loss.EXPIRED],
            "revoked_on_purpose": scores.losses[Loss.REVOKED],
            "revoked_admitted_past_bound": scores.past_bound,
            "wrong_user": scores.wrong_user,
            "answered_503": scores.not_now,
            "stragglers": list(self.stragglers),
            "probe": list(self.probed),
            "evidence": list(scores.evidence),
        }

    def screen(self) -> Group:
        """The table, the evidence if there is any, and the verdict in one line."""
        scores, faults = self.scores, self.faults()
        table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
        table.add_column(justify="right")
        table.add_column()
        for what, count in self.zeros().items():
            shown = what
            if what == Loss.UNINTENDED and scores.victims:
                shown = f"{what} ({len(scores.victims)} users)"
            table.add_row(_zero(count), Text(shown, "bold" if what == Loss.UNINTENDED else ""))
        table.add_section()
        for what, count in self.deeds().items():
            table.add_row(f"{count:,}", what)
        table.add_row(f"{scores.renewals:,}", "refreshes that went well")
        if scores.not_now:
            table.add_row(f"{scores.not_now:,}", "answered 503 and asked again")
        if scores.lost_connections:
            table.add_row(f"{scores.lost_connections:,}", "connections lost and made again")
        table.add_row(f"{len(self.stragglers)}", _stragglers(self.stragglers))
        parts: list[Table | Text] = [table]
        if self.probed:
            parts.append(Text("an old JWT was " + " → ".join(self.probed)))
        parts += [Text(f"  {line}", "yellow") for line in scores.evidence]
        if faults:
            parts.append(Text("FAILED: " + "; ".join(faults), "bold red"))
        elif not self.is_whole:
            parts.append(Text("Done wrong, and nothing was seen of it: this rehearsal is blind."))
        else:
            parts.append(
                Text(
                    f"{self.users} users, {self.seconds:.0f} s, from observe to retired: "
                    "nobody was logged out.",
                    "bold green",
                )
            )
        return Group(*parts)


def _zero(count: int) -> Text:
    return Text(f"{count:,}", "bold red" if count else "bold green")


def _stragglers(names: Sequence[str]) -> str:
    return "stragglers" + (f": {', '.join(names)}" if names else "")
