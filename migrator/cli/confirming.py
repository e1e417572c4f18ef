"""Between the plan of a move and its commit: the gates, whoever confirms it, the gates once more.

A name that is given with `--confirm` is held against the settings first: a wrong one may mean
wrong settings, and then what the gates say is of another deployment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from migrator.control import moving
from migrator.core.errors import Exit, Stopped

if TYPE_CHECKING:
    from migrator.cli.context import Context
    from migrator.control.flip import Order
    from migrator.control.moving import Plan


def confirmed(
    context: Context, planned: Plan, order: Order, confirm: str | None
) -> tuple[Plan, Order]:
    """The move as it may be made now; where somebody was asked, judged anew when they answered.

    Raises:
        Stopped: DECLINED; GATE_FAILED or EVIDENCE_STALE, what the gates say, or what got worse
            while somebody was asked; UNREACHABLE.
    """
    settings = context.settings
    if confirm is not None:
        context.confirm(settings.environment, confirm)
    if planned.exit_code is not Exit.DONE:
        raise Stopped(moving.refusal(planned), planned.exit_code)
    if confirm is None and planned.target.gated:
        context.confirm(settings.environment, None)
        planned = moving.again(settings, planned)
        order = replace(order, overrides=planned.overrides)
    return planned, order
