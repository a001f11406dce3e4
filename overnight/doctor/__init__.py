"""What is wrong with a deployment: its parts (`checks`), batches that nobody looks after any more (`batches`), and all
that is in flight when the database was restored to an earlier moment (`restored`).
"""

from overnight.doctor.batches import Finding, Problem, examine, lost_campaigns, reattach, reattach_campaign
from overnight.doctor.checks import Check, State, check_deployment
from overnight.doctor.restored import Fate, Recovered, recover

__all__ = [
    "Check",
    "Fate",
    "Finding",
    "Problem",
    "Recovered",
    "State",
    "check_deployment",
    "examine",
    "lost_campaigns",
    "reattach",
    "reattach_campaign",
    "recover",
]
