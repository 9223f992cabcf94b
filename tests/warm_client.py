"""Run a command in a fork of the warm Python at a socket, and end as it does: `warm_client.py SOCKET COMMAND [ARGUMENT]...`.

It imports almost nothing. Signals go on to the fork; when this process is killed, so is the fork.
"""

import json
import os
import signal
import socket
import sys

name, *arguments = sys.argv[2:]
if name == "python" and arguments[:1] not in (["-c"], ["-m"]) and arguments[0].startswith("-"):  # Python's own options
    os.execv(sys.executable, [sys.executable, *arguments])
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda received, _: connection.sendall(bytes([received])))
asked = json.dumps({"arguments": [name, *arguments], "folder": os.getcwd(), "environment": dict(os.environ)}).encode()  # noqa: PTH109
socket.send_fds(connection, [f"{len(asked):16}".encode()], [0, 1, 2])
connection.sendall(asked)
code = int(connection.recv(16) or 1)
if code < 0:  # it died by this signal
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
