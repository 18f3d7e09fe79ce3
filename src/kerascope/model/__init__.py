"""Keras models as graphs of primitive operations."""
