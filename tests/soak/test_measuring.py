"""What is held by a process is counted without the clients it serves."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, closing

from tests.soak import measuring


def test_a_connection_opened_counts_and_one_accepted_does_not() -> None:
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as server:
        before = measuring.held(os.getpid())
        for _ in range(5):
            stack.enter_context(closing(socket.create_connection(server.getsockname())))
            stack.enter_context(closing(server.accept()[0]))
        after = measuring.held(os.getpid())
    assert before is not None
    assert after is not None
    assert after.fds - before.fds == 5
