#!/usr/bin/env bash
# SURPRISE in one sentence.
#
# Guess:  what a good engineer expects, and why.
# Seen:   what happens instead (package X.Y, DATE).
# Matters: who is misled by it, and by how much.
#
# Output of DATE:
#   ...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'packaging==25.0' # PINNED packages
cd "$folder"
cat > try.py <<'PYTHON'
from importlib.metadata import version

print("packaging", version("packaging"))
guess, seen = "...", "..."  # what was expected, and what the package gave for input written here
print(f"guess: {guess}\nseen:  {seen}")
raise SystemExit(0 if seen == "..." else 1)  # 1: no longer so
PYTHON
venv/bin/python try.py
