"""Durable LLM batch inference on Temporal."""
