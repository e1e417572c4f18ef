"""The one page that a soak ends with, as text and as JSON."""

from __future__ import annotations

import math
import platform
from collections import Counter
from importlib.metadata import version
from typing import Any, Final

from tests.soak.history import Credential, Ending, Fault, Move, Read
from tests.soak.measuring import STALL
from tests.soak.soaking import Soaked, faults_of

_PACKAGES: Final = ("psycopg", "redis", "PyJWT", "cryptography", "uvicorn", "gunicorn")
_SHOWN: Final = 10


def facts(soaked: Soaked) -> dict[str, Any]:
    """Everything the page says."""
    asked, report = soaked.asked, soaked.report
    reads = [one for one in soaked.records if isinstance(one, Read)]
    took = sorted(one.ended - one.began for one in reads if one.kind != "lost")
    return {
        "command": command(soaked),
        "seed": asked.seed,
        "seconds": asked.seconds,
        "took_s": round(soaked.took_s, 1),
        "holds": soaked.holds,
        "tried": {
            "users": soaked.users,
            "credentials": _count(soaked, Credential),
            "presented": len(reads),
            "endings": dict(
                Counter(one.verb for one in soaked.records if isinstance(one, Ending))
            ),
            "moves of the rollout": _count(soaked, Move),
            "processes": soaked.processes,
        },
        "answers": {"checked": report.answers.total(), **report.answers},
        "faults": {
            "injected": len(faults_of(soaked)),
            **Counter(one.what for one in faults_of(soaked)),
        },
        "stalls": sum(isinstance(one, Fault) and one.what == STALL for one in soaked.records),
        "zeros": report.zeros(),
        "bounds": {
            situation: {
                "revocations": len(seconds),
                **{name: round(_at(seconds, share), 4) for name, share in _SHARES},
            }
            for situation, seconds in sorted(report.bounds.items())
        },
        "answered_within_s": {name: round(_at(took, share), 4) for name, share in _SHARES},
        "held": {
            "connections": soaked.connections,
            "connections_allowed": soaked.connections_allowed,
            "processes": [
                {
                    "worker": one.worker,
                    "rss_kib": [one.before.rss_kib, one.after.rss_kib],
                    "rss_growth": round(one.rss_share, 4),
                    "fds": [one.before.fds, one.after.fds],
                    "threads": [one.before.threads, one.after.threads],
                    "leaks": one.leaks,
                }
                for one in soaked.grown
            ],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def command(soaked: Soaked) -> str:
    """What repeats it, as far as a seed can."""
    asked = soaked.asked
    return (
        f"python -m tests.soak --seconds {asked.seconds:g} --seed {asked.seed}"
        f" --rate {asked.rate:g}"
    )


def text(soaked: Soaked) -> str:
    """The page."""
    said = facts(soaked)
    held, verdict = said["held"], "it holds" if said["holds"] else "IT DOES NOT HOLD"
    lines = [
        f"soak of {said['seconds']:g} s, seed {said['seed']}: {verdict}",
        "",
        "tried      " + _listed(said["tried"]),
        "answers    " + _listed(said["answers"]),
        "faults     " + _listed(said["faults"]),
        f"stalls     {said['stalls']} of half a second and more, by a busy machine: none of ours",
        "",
        "zeros",
        *(f"  {number:>6}  {what}" for what, number in said["zeros"].items()),
        "",
        "admitted after a revocation was acknowledged, in seconds",
        *(
            f"  {situation:<22} {each['revocations']:>6} revocations"
            f"   p50 {each['p50']:.3f}   p99 {each['p99']:.3f}   max {each['max']:.3f}"
            for situation, each in said["bounds"].items()
        ),
        "answered within (faults included)   " + _listed(said["answered_within_s"]),
        "",
        "held, from warm to the end",
        f"  connections to Postgres {held['connections']} of {held['connections_allowed']}",
        *(
            f"  {each['worker']:<16} RSS {each['rss_growth']:+.1%}"
            f"   descriptors {each['fds'][0]} -> {each['fds'][1]}"
            f"   threads {each['threads'][0]} -> {each['threads'][1]}"
            for each in held["processes"]
        ),
        "",
        "versions   " + _listed(said["versions"]),
        "repeat     " + said["command"],
    ]
    findings = soaked.report.findings
    lines += [f"! {one.zero}: {one.why}\n    {one.record}" for one in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        lines.append(f"! and {len(findings) - _SHOWN} more, in the history")
    return "\n".join(lines)


def _listed(said: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {_listed(value)}" if isinstance(value, dict) else f"{name} {value}"
        for name, value in said.items()
    )


def _count(soaked: Soaked, sort: type) -> int:
    return sum(isinstance(one, sort) for one in soaked.records)


def _at(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


_SHARES: Final = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
