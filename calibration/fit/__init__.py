"""Measured rows -> coefficients of one model each: ``fit_<model>`` for the step-time models of `simulator.engine`, the
API server and power.

A fit sees the rows that it is given and no load test that it will be judged on; profiles are put together in
`calibration.profiles`.
"""
