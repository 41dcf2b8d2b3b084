"""Exports of runs: predict, queue, start, stop, list and delete them."""

from modelforge.services.exports.service import ExportService
from modelforge.services.exports.view import ExportView, Prediction

__all__ = ["ExportService", "ExportView", "Prediction"]
