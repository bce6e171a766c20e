"""Training: the loop with progress, evaluation, logs, Ctrl-C, checkpoints and exact resume."""

from microgpt.train.evaluation import Metrics, accuracy, evaluate
from microgpt.train.fitting import fit
from microgpt.train.logs import JSONLines, Logger, TensorBoard
from microgpt.train.run import Callback, History, Run, StopTraining

__all__ = [
    "fit",
    "evaluate",
    "accuracy",
    "Callback",
    "StopTraining",
    "History",
    "Run",
    "Logger",
    "JSONLines",
    "TensorBoard",
    "Metrics",
]
