"""``python -m calibration.make_kernel_profiles``: see `calibration.profiles.make_kernel_profiles`."""

from calibration.profiles.make_kernel_profiles import main

if __name__ == "__main__":
    raise SystemExit(main())
