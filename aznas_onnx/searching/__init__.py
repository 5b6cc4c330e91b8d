"""Search a space: Algorithm 1 within budgets, stored in SQLite."""

from aznas_onnx.searching.budget import Budget, Cost, CountConvention, Limit
from aznas_onnx.searching.executors import Executor, Scorer, TrialOutcome
from aznas_onnx.searching.leaderboard import Leaderboard
from aznas_onnx.searching.search import search
from aznas_onnx.searching.search_progress import Progress
from aznas_onnx.searching.settings import Strategy, StudySettings
from aznas_onnx.searching.store.database import StudyError
from aznas_onnx.searching.study import Study
from aznas_onnx.searching.trial import COMPLEXITY, Candidate, Proposal, Trial, TrialOrigin

__all__ = [
    "COMPLEXITY",
    "Budget",
    "Candidate",
    "Cost",
    "CountConvention",
    "Executor",
    "Leaderboard",
    "Limit",
    "TrialOrigin",
    "TrialOutcome",
    "Progress",
    "Proposal",
    "Scorer",
    "Strategy",
    "Study",
    "StudyError",
    "StudySettings",
    "Trial",
    "search",
]
