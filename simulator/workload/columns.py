"""The columns of a `RequestTable`."""

import numpy as np

# column -> dtype and, unless every table has it, its value where it is not given
COLUMNS: dict[str, tuple[type, float | None]] = {
    "arrival_s": (np.float64, None),
    "prompt_tokens": (np.int32, None),
    "output_tokens": (np.int32, None),
    "max_tokens": (np.int32, None),
    "priority": (np.int32, None),
    "traffic_class": (np.int16, 0),
    "tenant": (np.int32, 0),
    "session": (np.int32, -1),
    "after": (np.int32, -1),
    "wait_s": (np.float64, 0.0),
    "pool": (np.int16, -1),
    "until_s": (np.float64, np.inf),
}
NONE, FREED = -1, -2  # in ``after``
OWN_STREAM = 1 << 62  # stream OWN_STREAM + i is the own stream of request i
INT32_MAX = int(np.iinfo(np.int32).max)
