"""The embedded stack: Kafka broker, MySQL-compatible server, mail inbox, and the Java they need."""

from __future__ import annotations

from fraudstream.stack.addresses import Addresses
from fraudstream.stack.errors import StackError
from fraudstream.stack.stack import Stack

__all__ = ["Addresses", "Stack", "StackError"]
