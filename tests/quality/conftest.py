"""The benchmarks are no installed package; they are imported from the root of the repository, as ``./dev bench`` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
