"""Campaigns in the project's environment: started, followed, gone on with, and their raw rows read back as batches and
load tests.

Nothing is fitted or judged here, and rows are never changed once they are written.
"""
