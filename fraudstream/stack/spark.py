"""What Spark needs on this machine before a session starts: Java, this very Python, the Kafka connector.

And what makes it start sooner: an archive of the classes that Java loads for it, which a rehearsal has
written (Java's class data sharing, JEP 350).
"""

from __future__ import annotations

import hashlib
import importlib.util
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


def class_archive(environment: Mapping[str, str], cache_dir: Path) -> Path:
    """Where the archive for this Java and these jars of pyspark lies, or would lie. Raises JavaNotFound.

    It is in this Python's environment, as the jars are: it is of use with these very files only.
    """
    java = find_java(environment, cache_dir).resolve()
    pyspark = importlib.util.find_spec("pyspark")
    assert pyspark is not None and pyspark.origin is not None
    jars = sorted(Path(pyspark.origin).parent.joinpath("jars").glob("*.jar"))
    described = [f"{file} {(status := file.stat()).st_size} {status.st_mtime_ns}" for file in (java, *jars)]
    key = hashlib.sha256("\n".join(described).encode()).hexdigest()
    return Path(sys.prefix) / f"spark-classes-{key[:12]}.jsa"


def map_classes(archive: Path) -> list[str]:
    """Java options that make use of the archive; none where nobody has written it."""
    return [f'-XX:SharedArchiveFile="{archive}"'] if archive.exists() else []


def record_classes(archive: Path) -> list[str]:
    """Java options that write the archive when this Java ends, which takes it some seconds."""
    return [f'-XX:ArchiveClassesAtExit="{archive}"', "-Xlog:disable", "-Xlog:all=error:stderr"]
