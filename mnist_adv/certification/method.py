"""The ways in which margins are bounded."""

from __future__ import annotations

from mnist_adv.arguments import NamedChoice


class Method(NamedChoice):
    """How margins are bounded: each but the last is tighter and slower than the one before."""

    IBP = "ibp"
    CROWN = "crown"
    ALPHA_CROWN = "alpha_crown"
    BETA_CROWN = "beta_crown"
    MILP = "milp"
    SDP = "sdp"


# Those that split into cases what their bounds leave open, as long as they are given time.
BRANCHING = (Method.BETA_CROWN, Method.MILP, Method.SDP)
