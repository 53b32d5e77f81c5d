"""``python -m calibration.vllm_oracle``: see `calibration.oracle.vllm_oracle`."""

from calibration.oracle.vllm_oracle import main

if __name__ == "__main__":
    raise SystemExit(main())
