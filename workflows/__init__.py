"""The deterministic half of the application: what happens to a batch, and in which order."""

from workflows.batch import BatchWorkflow

__all__ = ["BatchWorkflow"]
