"""Patterns of neurons: what in the data makes each of them answer, and how much of the answer that explains."""
