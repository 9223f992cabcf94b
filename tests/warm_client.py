"""Run a command in a fork of the warm Python at a socket, and end as it does: `warm_client.py SOCKET COMMAND [ARGUMENT]...`.

It starts a thousand times, so it imports almost nothing. The fork has all files that are open here, under the same numbers.
Signals go on to it; when this process is killed, so is the fork.
"""

import _signal
import _socket
import os
import sys

path, name, *arguments = sys.argv[1:]
if name == "python":
    while arguments[0] == "-B":  # which is also in the environment
        del arguments[0]
    if arguments[0].startswith("-") and arguments[0] not in ("-c", "-m"):  # Python's own options
        os.execv(sys.executable, [sys.executable, *arguments])
listed = os.listdir("/proc/self/fd")  # noqa: PTH208
files = [int(number) for number in listed if os.path.exists(f"/proc/self/fd/{number}")]  # noqa: PTH110  # not the listing's
connection = _socket.socket(_socket.AF_UNIX)
connection.connect(path)
for number in (_signal.SIGINT, _signal.SIGTERM):
    _signal.signal(number, lambda received, _: connection.send(bytes([received])))
variables = [f"{key}={value}" for key, value in os.environ.items()]
words = [os.getcwd(), " ".join(map(str, files)), str(1 + len(arguments)), name, *arguments, *variables]  # noqa: PTH109
asked = os.fsencode("\0".join(words))
rights = b"".join(file.to_bytes(4, sys.byteorder) for file in files)
connection.sendmsg([f"{len(asked):16}".encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
connection.sendall(asked)
code = int(connection.recv(16) or 1)
if code < 0:  # it died by this signal
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
