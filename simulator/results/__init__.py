"""What is said about records: verdict, objectives, waterfall, explanations, intervals, comparisons, and `Result`, which
offers them.

Everything is computed from tables; nothing here can change a run or start one.
"""
