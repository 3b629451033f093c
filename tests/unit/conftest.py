"""What unit tests share: one small Spark session on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from fraudstream.config import child_environment, export, load_settings
from fraudstream.stack.spark import spark_variables


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local session without a UI; times are in UTC."""
    export(**spark_variables(child_environment(), load_settings().cache_dir, local=True))
    session = (
        SparkSession.builder.master("local[2]")
        .appName("fraudstream-unit-tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.python.daemon.module", "fraudstream.executor_daemon")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
