"""What can go wrong with the embedded stack; each text says what to do."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot do what was asked; the text names the cause and the remedy."""


class JavaNotFound(StackError):
    """No Java that Kafka and Spark run on, and none could be fetched."""


class ArtifactError(StackError):
    """A download failed or is not the file that artifacts.lock names."""


class ServiceFailed(StackError):
    """A service of the stack did not start; the text has the end of its log."""


class StackNotRunning(StackError):
    """There are no addresses to give, because the stack is not up."""
