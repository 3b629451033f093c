"""What Spark needs on this machine before a session starts: Java, this very Python, the Kafka connector."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fraudstream.stack.artifacts import Artifacts
from fraudstream.stack.display import download_bars
from fraudstream.stack.java import find_java, java_home


def spark_variables(environment: Mapping[str, str], cache_dir: Path, *, local: bool) -> dict[str, str]:
    """The variables to export before a session is built. Raises JavaNotFound.

    `local`: the executors run on this machine, in this very Python; those of a cluster have their own.
    """
    java = {"JAVA_HOME": str(java_home(find_java(environment, cache_dir)))}
    return {**java, "PYSPARK_PYTHON": sys.executable} if local else java


def connector_jars(environment: Mapping[str, str], cache_dir: Path) -> list[Path]:
    """The jars that pyspark lacks to read from Kafka: downloaded once, then from the cache."""
    with download_bars() as progress:
        artifacts = Artifacts(
            cache_dir, lambda: find_java(environment, cache_dir), environment, progress=progress
        )
        return artifacts.spark_connector_jars()
