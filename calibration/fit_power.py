"""``python -m calibration.fit_power``: see `calibration.fit.power`."""

from calibration.fit.power import main

if __name__ == "__main__":
    raise SystemExit(main())
