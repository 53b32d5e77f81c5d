"""``python -m calibration.coverage``: see `calibration.judge.coverage`."""

from calibration.judge.coverage import main

if __name__ == "__main__":
    raise SystemExit(main())
