"""Who can reach the dashboard: nobody but this machine, until someone decides otherwise."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import psutil


def test_the_dashboard_listens_on_this_machine_only(start_dashboard: Callable[..., str]) -> None:
    port = str(urlsplit(start_dashboard(MYSQL_URL="127.0.0.1:1")).port)
    (dashboard,) = (child for child in psutil.Process().children() if port in child.cmdline())
    family = [dashboard, *dashboard.children(recursive=True)]
    listening = {
        (connection.laddr.ip, str(connection.laddr.port))
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port)}
