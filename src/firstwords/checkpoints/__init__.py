"""Weights and configurations on disk."""
