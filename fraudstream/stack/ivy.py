"""Runs the Ivy that pyspark brings, to download modules and all that they need from Maven Central."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from fraudstream.stack.errors import ArtifactError
from fraudstream.stack.processes import is_alive, kill, spawn, tail

_PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Dependency:
    """A module on Maven Central, and those that it would bring along but must not."""

    organisation: str
    name: str
    version: str
    without: tuple[str, ...] = ()


def retrieve(
    dependencies: Sequence[Dependency],
    folder: Path,
    *,
    java: Path,
    cache: Path,
    environment: Mapping[str, str],
    log: Path,
    on_bytes: Callable[[int], None],
) -> None:
    """Put the jars of `dependencies` and of what they need into `folder`.

    `cache` is Ivy's working folder, `log` gets what it prints, `on_bytes` is told how many bytes have
    come. What arrives is not checked here. Raises ArtifactError with the end of the log.
    """
    cache.mkdir(parents=True, exist_ok=True)
    settings, module = cache / "settings.xml", cache / "module.xml"
    settings.write_text(_settings(cache))
    module.write_text(_module(dependencies))
    log.unlink(missing_ok=True)
    command: list[str | Path] = [
        java,
        *_proxy_options(environment),
        f"-Divy.default.ivy.user.dir={cache}",
        *("-cp", _ivy_jar(), "org.apache.ivy.Main"),
        *("-settings", settings),
        *("-ivy", module),
        *("-retrieve", folder / "[artifact]-[revision].[ext]"),
    ]
    process = spawn(command, environment=environment, log=log)
    try:
        while is_alive(process):
            on_bytes(_bytes_of_jars(cache))
            time.sleep(_PROGRESS_INTERVAL_S)
    finally:
        kill([process])
    if process.wait() != 0:
        raise ArtifactError(f"the download failed: is this machine connected to the internet?\n{tail(log)}")


def _bytes_of_jars(folder: Path) -> int:
    # A jar has the suffix .part until it is complete, and is renamed while we look.
    size = 0
    for jar in folder.glob("*/*/*/*.jar*"):
        with suppress(FileNotFoundError):
            size += jar.stat().st_size
    return size


def _ivy_jar() -> Path:
    # Found without importing pyspark, which would load it into programs that never use Spark.
    spec = importlib.util.find_spec("pyspark")
    folders = list(spec.submodule_search_locations or []) if spec else []
    jars = [jar for folder in folders for jar in Path(folder).glob("jars/ivy-*.jar")]
    if not jars:
        raise ArtifactError("pyspark's jars are not installed: pip install -r requirements.txt")
    return jars[0]


def _proxy_options(environment: Mapping[str, str]) -> list[str]:
    # Java does not look at these variables, on which everything else on such a machine depends.
    proxy = urlsplit(environment.get("https_proxy") or environment.get("HTTPS_PROXY") or "")
    if proxy.hostname is None:
        return []
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]


def _settings(cache: Path) -> str:
    # Its own cache, and Maven Central only: the user's local Maven repository may be half-filled.
    return f"""<ivysettings>
  <settings defaultResolver="central"/>
  <caches defaultCacheDir={quoteattr(str(cache))}/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""


def _module(dependencies: Sequence[Dependency]) -> str:
    wanted = "\n".join(_dependency(dependency) for dependency in dependencies)
    return f"""<ivy-module version="2.0">
  <info organisation="fraudstream" module="stack"/>
  <configurations><conf name="default"/></configurations>
  <dependencies defaultconf="default-&gt;default">
{wanted}
  </dependencies>
</ivy-module>
"""


def _dependency(dependency: Dependency) -> str:
    excludes = "".join(f"<exclude module={quoteattr(name)}/>" for name in dependency.without)
    return (
        f"    <dependency org={quoteattr(dependency.organisation)} name={quoteattr(dependency.name)} "
        f"rev={quoteattr(dependency.version)}>{excludes}</dependency>"
    )
