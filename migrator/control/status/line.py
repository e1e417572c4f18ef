"""Status as one line of key=value, for logs and chat.

Every key is always there; that of the drain says how sure it is: drain_exact, drain_estimate, or
drain where its end is unknown.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from migrator.control.words import UNKNOWN, span


def line(report: dict[str, Any]) -> str:
    """The line of a report."""
    if report["phase"] is None:
        return f"phase={UNKNOWN} ready=no failing={report['warnings'][0]['id']}"
    nodes, ready, back = report["nodes"], report["ready"], report["rollback"]
    percent = report["traffic"]["legacy_percent"]
    subjects = report["if_cut_over"]["subjects"]
    of = nodes["live"] if nodes["expected"] is None else nodes["expected"]
    fields = {
        "phase": report["phase"]["name"],
        "epoch": report["phase"]["epoch"],
        "state": report["phase"]["state"],
        "nodes": f"{nodes['acked']}/{of}",
        "legacy": UNKNOWN if percent is None else f"{percent:.2f}%",
        "subjects": UNKNOWN if subjects is None else subjects,
        **_drain(report),
        "ready": "yes" if ready["ok"] else "no",
        "failing": ",".join(ready["failing"]) or "none",
        "stale": ",".join(ready["stale"]) or "none",
        "inconclusive": ",".join(ready["inconclusive"]) or "none",
        "rollback": f"{back['to']}:instant" if back["possible"] else "none",
    }
    return " ".join(f"{key}={value}" for key, value in fields.items())


def _drain(report: dict[str, Any]) -> dict[str, str]:
    drain = report["drain"]
    if drain["horizon"] is None:
        return {"drain": UNKNOWN}
    left = max(drain["horizon"] - report["generated_at"], timedelta())
    return {f"drain_{drain['bound']}": span(left).replace(" ", "")}
