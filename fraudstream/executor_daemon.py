"""What Spark's executors fork their Python workers from: a process that has imported what they need.

Spark ends a worker that was idle for a minute. Without this the next large batch would wait until new ones
have imported all of it again, each for itself.
"""

from __future__ import annotations

import gc

from pyspark.daemon import manager

from fraudstream import executors
from fraudstream.store import lookups

__all__ = ["executors", "lookups"]

if __name__ == "__main__":
    # A worker collects garbage after each task, and would look at all that was imported each time.
    gc.freeze()
    manager()
