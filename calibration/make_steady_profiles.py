"""``python -m calibration.make_steady_profiles``: see `calibration.profiles.make_steady_profiles`."""

from calibration.profiles.make_steady_profiles import main

if __name__ == "__main__":
    raise SystemExit(main())
