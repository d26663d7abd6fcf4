"""From final arrays to success, norms and range; for linear models, beside the optimum."""

from mnist_adv.verdict.beside_optimum import BelowOptimumError, Comparison, compare, set_beside
from mnist_adv.verdict.judge import TOLERANCE, Verdict, judge, judge_goal

__all__ = [
    "TOLERANCE",
    "BelowOptimumError",
    "Comparison",
    "Verdict",
    "compare",
    "judge",
    "judge_goal",
    "set_beside",
]
