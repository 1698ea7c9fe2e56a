"""The engines: one class each, all of which keep one protocol (`protocol.py`)."""
