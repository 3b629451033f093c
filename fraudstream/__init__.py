"""fraudstream: CSV -> Kafka -> PySpark Structured Streaming -> MySQL, with mail alerts and a dashboard."""

import contextlib

# The order matters on Linux. The database driver's C extension can only be loaded before pyarrow (its
# libstdc++ needs thread-local storage that glibc hands out only at the first load), and after `ssl`
# (hashlib alone loads a libcrypto that the driver's own libssl does not fit). Where it is missing,
# `fraudstream.store.engine` says so when the pipeline asks for it.
import ssl  # noqa: F401

with contextlib.suppress(ImportError):
    import _mysql_connector  # noqa: F401
