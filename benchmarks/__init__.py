"""Measured speed. Never part of the tests."""
