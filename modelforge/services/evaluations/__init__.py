"""Evaluations of runs: predict, queue, start, stop, list and delete them."""

from modelforge.services.evaluations.service import EvaluationService
from modelforge.services.evaluations.view import EvaluationView, Prediction

__all__ = ["EvaluationService", "EvaluationView", "Prediction"]
