"""What the command line reports in one line, exit code 2.

::

    OperatorError
    ├── PortTaken        a port of the stack is in use
    ├── StackRunning     a stack already runs on this state directory
    ├── StackNotRunning  no stack runs on this state directory
    ├── ServiceFailed    a server of the stack ended or did not become healthy
    └── ApiRefused       the API answered with a problem
"""

from __future__ import annotations


class OperatorError(Exception):
    """Something the person at the command line can mend; its text says how."""


class PortTaken(OperatorError):
    """A port of the stack is in use."""

    def __init__(self, setting: str, port: int) -> None:
        super().__init__(f"port {port} is taken; set {setting} to a free port")


class StackRunning(OperatorError):
    """A stack already runs on this state directory."""


class StackNotRunning(OperatorError):
    """No stack runs on this state directory."""


class ServiceFailed(OperatorError):
    """A server of the stack ended or did not become healthy."""


class ApiRefused(OperatorError):
    """The API answered with a problem; ``problem_type`` is its RFC 9457 type."""

    def __init__(self, detail: str, *, problem_type: str = "about:blank") -> None:
        super().__init__(detail)
        self.problem_type = problem_type
