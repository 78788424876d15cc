"""A warm process: it has imported all that a hospital's round needs and forks a child for each run.

Starting Python and importing PyTorch, Opacus and Prefect takes seconds; a fork takes milliseconds.
The warm process is single-threaded, because a fork copies only the thread that calls it, and it is
itself forked from the process that starts the worker, so that both share the imported pages.

    warm = WarmProcess.fork(entry=run_child, prepare=confine)   # before any thread exists
    child = await warm.start({"target": "..."})
    ended = await warm.wait(child)                              # its exit code and its answer

Orders and reports are JSON datagrams on a socket pair; a request travels beside its order in a file
in memory, which the child reads and in which it leaves its answer. When the worker ends, for
whatever reason, the socket closes and the warm process ends with its children.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import anyio
import anyio.abc

_MAX_MESSAGE: Final = 4096
_MAX_ANSWER: Final = 16_384
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

Request = Mapping[str, str]
Entry = Callable[[Request], str]
Prepare = Callable[[], None]


class WarmProcessGone(RuntimeError):
    """The warm process has ended; the worker must be restarted."""


class ThreadsBeforeFork(RuntimeError):
    """The process has threads already: a fork would copy their locks but not them."""


def die_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Asks the kernel to signal this process when its parent ends (Linux, prctl(2)).

    ``parent`` is the parent's process id: if it has ended already, the signal comes at once.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child has ended.

    Attributes:
        exit_code: negative for a signal.
        answer: what the entry returned, UTF-8; empty when it did not return. The child has written
            it, so it is to be read as a stranger's.
    """

    exit_code: int
    answer: bytes


class WarmProcess:
    """The worker's end of the socket pair."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self._connection = connection
        self._started: dict[str, anyio.Event] = {}
        self._pids: dict[str, int] = {}
        self._ended: dict[int, anyio.Event] = {}
        self._exit_codes: dict[int, int] = {}
        self._answers: dict[int, int] = {}
        self._gone = False
        self._next = 0

    @classmethod
    def fork(cls, entry: Entry, prepare: Prepare | None = None) -> WarmProcess:
        """Forks the warm process off this one; ``entry`` runs in each child.

        ``prepare`` runs once in the warm process, before it forks anything; what it does to itself
        it does to all children.

        Raises:
            ThreadsBeforeFork: this process has more than one thread.
            WarmProcessGone: ``prepare`` failed; this process's log says how.
        """
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise ThreadsBeforeFork(f"{threads} threads run before the warm process is forked")
        gc.collect()
        gc.freeze()  # keeps the collector from writing to, and so copying, the shared pages
        worker = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _prepare(theirs, prepare)
            # Only now: the kernel forgets the wish when a process changes its privileges.
            die_with_parent(worker)
            _serve(theirs, entry)
        theirs.close()
        if not ours.recv(_MAX_MESSAGE):
            os.waitpid(pid, 0)
            raise WarmProcessGone("the warm process could not be prepared; the log above says why")
        ours.setblocking(False)
        return cls(ours, pid)

    async def listen(self) -> NoReturn:
        """Takes in the reports of the warm process; runs beside ``start`` and ``wait``.

        Raises:
            WarmProcessGone: the warm process has ended.
        """
        while True:
            await anyio.wait_readable(self._connection)
            data = self._connection.recv(_MAX_MESSAGE)
            if not data:
                self._gone = True
                for event in [*self._started.values(), *self._ended.values()]:
                    event.set()
                raise WarmProcessGone(f"warm process {self.pid} has ended; restart the worker")
            report = json.loads(data)
            pid = int(report["pid"])
            if "ticket" in report:
                self._pids[report["ticket"]] = pid
                self._ended[pid] = anyio.Event()
                self._started[report["ticket"]].set()
            else:
                self._exit_codes[pid] = int(report["exit_code"])
                self._ended[pid].set()

    async def start(self, request: Request) -> int:
        """Forks a child that runs ``entry(request)``; returns its process id."""
        self._next += 1
        ticket = str(self._next)
        started = self._started[ticket] = anyio.Event()
        shared = os.memfd_create("request")
        try:
            with os.fdopen(shared, "wb", closefd=False) as file:
                file.write(json.dumps(dict(request)).encode())
            self._send({"ticket": ticket}, [shared])
            await started.wait()
            del self._started[ticket]
            if self._gone:
                raise WarmProcessGone(f"warm process {self.pid} has ended; restart the worker")
        except BaseException:
            os.close(shared)
            raise
        pid = self._pids.pop(ticket)
        self._answers[pid] = shared
        return pid

    async def wait(self, pid: int) -> Ended:
        """Returns how the child ended, once it has."""
        try:
            await self._ended[pid].wait()
            del self._ended[pid]
            if self._gone:
                raise WarmProcessGone(f"warm process {self.pid} ended before its child {pid}")
            answer = os.pread(self._answers[pid], _MAX_ANSWER, 0)
        finally:
            os.close(self._answers.pop(pid))
        return Ended(self._exit_codes.pop(pid), answer)

    def kill(self, pid: int) -> None:
        """Ends a child at once."""
        self._send({"kill": pid})

    def close(self) -> None:
        """Ends the warm process and its children."""
        self._connection.close()

    def _send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        if self._gone:
            raise WarmProcessGone(f"warm process {self.pid} has ended; restart the worker")
        socket.send_fds(self._connection, [json.dumps(message).encode()], descriptors)


def _prepare(connection: socket.socket, prepare: Prepare | None) -> None:
    try:
        if prepare is not None:
            prepare()
        connection.send(b"ready")
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _serve(connection: socket.socket, entry: Entry) -> NoReturn:
    """The warm process: forks on request, reports starts and ends, ends with the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the worker, which decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # makes the wake-up descriptor readable
    children: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wake_read in ready:
                os.read(wake_read, 4096)
                _report_ended(connection, children)
            if connection in ready and not _handle(connection, children, entry):
                break
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _handle(connection: socket.socket, children: set[int], entry: Entry) -> bool:
    """Acts on one message; returns False when the worker has closed the socket."""
    data, descriptors, _, _ = socket.recv_fds(connection, _MAX_MESSAGE, 1)
    if not data:
        return False
    message = json.loads(data)
    if "kill" in message:
        if message["kill"] in children:
            os.kill(message["kill"], signal.SIGKILL)
        return True
    warm = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(warm)
        connection.close()
        _run(entry, descriptors[0])
    os.close(descriptors[0])
    children.add(pid)
    connection.send(json.dumps({"ticket": message["ticket"], "pid": pid}).encode())
    return True


def _report_ended(connection: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        report = {"pid": pid, "exit_code": os.waitstatus_to_exitcode(status)}
        connection.send(json.dumps(report).encode())


def _run(entry: Entry, descriptor: int) -> NoReturn:
    """The child: runs the entry and ends without unwinding into the warm process's loop."""
    exit_code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with os.fdopen(descriptor, "rb+") as file:
            file.seek(0)
            request = json.load(file)
            file.seek(0)
            file.truncate()  # a child that ends before its answer has none
            answer = entry(request)
            file.write(answer.encode())
        exit_code = 0
    except SystemExit as exit_request:
        exit_code = exit_request.code if isinstance(exit_request.code, int) else 1
    except BaseException:
        traceback.print_exc()  # to the hospital's own log, never to the coordinator
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
