"""Benchmarking scores against measured accuracies."""

from aznas_onnx.benching.correlation import Bootstrap, Interval
from aznas_onnx.benching.evaluation import Agreement, Evaluation, evaluate
from aznas_onnx.benching.records import Record
from aznas_onnx.benching.report import write_report
from aznas_onnx.benching.run import Run, bench, prepare_run
from aznas_onnx.benching.scorefile import Scores, read_scores
from aznas_onnx.benching.scoring import Scored
from aznas_onnx.benching.truth import Truth, read_truth

__all__ = [
    "Agreement",
    "Bootstrap",
    "Evaluation",
    "Interval",
    "Record",
    "Run",
    "Scored",
    "Scores",
    "Truth",
    "bench",
    "evaluate",
    "prepare_run",
    "read_scores",
    "read_truth",
    "write_report",
]
