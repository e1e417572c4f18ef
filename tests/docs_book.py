"""Which pages there are, and in which order a rollout walks them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = ROOT / "playbooks"
# In rollout order. A leak happens while JWTs still work, and support is asked about it afterwards;
# the fears are looked up after a cutover.
WALK = (
    "00-decide",
    "01-install-and-observe",
    "10-swap",
    "50-clients",
    "55-behind-a-proxy",
    "56-serve",
    "57-bridge",
    "36-key-leak",
    "80-support-faq",
    "20-drain",
    "25-brownout",
    "70-comms",
    "30-cutover",
    "60-drill",
    "35-rollback",
    "90-what-if",
    "40-retire",
)
# Read, not walked: they say why, and what holds against whom.
REASONS = frozenset({"why", "threat-model"})
# What moves a rollout, or is done to one in a hurry: these have all of the template.
MOVES = (
    "10-swap",
    "20-drain",
    "25-brownout",
    "30-cutover",
    "35-rollback",
    "36-key-leak",
    "40-retire",
    "60-drill",
)
ALL = [README, *sorted(PAGES.glob("*.md"))]
