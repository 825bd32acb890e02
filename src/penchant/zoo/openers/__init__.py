"""Beginnings of stories to continue, and continuations that simulated annotators have compared."""
