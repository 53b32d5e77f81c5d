"""Where one request is on its path."""

NO, WAITS, HOLDS = range(3)  # a worker of a pool that is held for the whole request


class Journey:
    """Where one request is."""

    __slots__ = ("attempt", "critical", "hit", "holds", "in_llm", "left", "open", "past", "sent_s", "skipped")

    def __init__(self, before: list[int], critical: int, sent_s: float) -> None:
        self.left = before.copy()  # stages that each stage still waits for
        self.critical = critical  # stages that the client still waits for
        self.past: set[int] = set()  # stages that are behind it
        self.skipped: set[int] = set()  # not chosen by a branch
        self.hit = False
        self.open = True
        self.in_llm = False
        self.attempt = 0  # at the LLM
        self.holds = NO
        self.sent_s = sent_s
