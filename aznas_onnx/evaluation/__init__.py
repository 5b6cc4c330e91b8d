"""Compare scores with measured accuracies."""

from aznas_onnx.evaluation.agreement import Agreement, Evaluation, evaluate
from aznas_onnx.evaluation.correlation import Bootstrap, Interval, SizeMatch
from aznas_onnx.evaluation.record import Record
from aznas_onnx.evaluation.report.page import write_report
from aznas_onnx.evaluation.run import Run, bench, prepare_run
from aznas_onnx.evaluation.score_archs import Scored
from aznas_onnx.evaluation.scorefile import Scores, read_scores
from aznas_onnx.evaluation.truth import Truth, read_truth

__all__ = [
    "Agreement",
    "Bootstrap",
    "Evaluation",
    "Interval",
    "Record",
    "Run",
    "Scored",
    "Scores",
    "SizeMatch",
    "Truth",
    "bench",
    "evaluate",
    "prepare_run",
    "read_scores",
    "read_truth",
    "write_report",
]
