"""``python -m calibration.accuracy``: see `calibration.commands.accuracy`."""

from calibration.commands.accuracy import main

if __name__ == "__main__":
    raise SystemExit(main())
