"""Imported for its effect, before anything else of ours: `support`, the tests' own helpers, can be imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
