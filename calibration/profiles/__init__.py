"""Profiles: fitted, checked against physics, with what they rest on and how wrong they are; and those that ship.

The only room where fits and judgements meet; the fits themselves and the comparisons live in theirs.
"""
