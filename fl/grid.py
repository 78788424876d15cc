"""A Flower grid over any transport that carries bytes to nodes and back.

    grid = TransportGrid(LocalTransport({1: app_1, 2: app_2, 3: app_3}))
    replies = grid.send_and_receive(messages, timeout=60)

A transport knows its nodes and exchanges requests for replies; it knows nothing of Flower.
`LocalTransport` runs ClientApps in this process, for tests and simulation. `CohortTransport` is
what a strategy sees of a real cohort: one node, since only its mean is ever known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fl.errors import RoundError, StrategyError, WireError
from fl.records import decode_record, encode_record

COHORT_NODE: Final = 1
_UNKNOWN_CAUSE: Final = 0  # Flower's code for an error without a class of its own


@dataclass(frozen=True, slots=True)
class Request:
    """A message to a node.

    Attributes:
        node_id: the node it is for.
        kind: Flower's message type, ``train`` or ``evaluate``.
        body: the encoded record.
    """

    node_id: int
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A node's answer: an encoded record, or the reason why there is none.

    Attributes:
        node_id: the node that answers.
        body: the encoded record, or None.
        error: why there is no record, or None.
    """

    node_id: int
    body: bytes | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.body is None) == (self.error is None):
            raise ValueError(f"reply of node {self.node_id}: give a body or an error, one of both")


class Transport(Protocol):
    """Carries requests to nodes and brings their replies."""

    def nodes(self) -> Sequence[int]:
        """Returns the ids of the nodes that can be reached now."""
        ...

    def exchange(self, requests: Sequence[Request], *, timeout_s: float | None) -> Iterable[Reply]:
        """Sends all requests and returns the replies that came within ``timeout_s`` seconds.

        A node that did not answer may be left out or have a reply with an error.
        """
        ...


class TransportGrid(Grid):
    """A Flower grid that sends and receives in one step.

    Requests and replies are put in the order of node ids: strategies add floating-point numbers in
    the order of the replies, and Flower draws the nodes in random order.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get_node_ids(self) -> list[int]:
        """Returns the ids of the transport's nodes, in order."""
        return sorted(self._transport.nodes())

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Sends at most one message to each node and returns the replies, in order of node ids.

        A reply that cannot be read becomes an error reply of its node, like one that says why.

        Args:
            messages: messages with content, for different nodes.
            timeout: seconds to wait for replies; None leaves it to the transport.

        Raises:
            RoundError: two messages to one node, a reply from a node that was not asked, or a
                second reply.
        """
        asked: dict[int, Message] = {}
        for message in messages:
            if asked.setdefault(message.metadata.dst_node_id, message) is not message:
                raise RoundError(f"two messages to node {message.metadata.dst_node_id} at once")
        requests = [
            Request(node, asked[node].metadata.message_type, encode_record(asked[node].content))
            for node in sorted(asked)
        ]
        answered: dict[int, Message] = {}
        for reply in self._transport.exchange(requests, timeout_s=timeout):
            if reply.node_id not in asked:
                raise RoundError(f"a reply from node {reply.node_id}, which was not asked")
            if reply.node_id in answered:
                raise RoundError(f"a second reply from node {reply.node_id}")
            answered[reply.node_id] = _message(reply, to=asked[reply.node_id])
        return [answered[node] for node in sorted(answered)]

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Returns a message for `send_and_receive`."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def push_messages(self, messages: Iterable[Message]) -> NoReturn:
        """Refuses: nothing is sent without receiving. Raises StrategyError."""
        raise _not_offered("push_messages")

    def pull_messages(self, message_ids: Iterable[str]) -> NoReturn:
        """Refuses: nothing is received without sending. Raises StrategyError."""
        raise _not_offered("pull_messages")

    def set_run(self, run: object) -> NoReturn:
        """Refuses: there is no Flower server and no run of its own. Raises StrategyError."""
        raise _not_offered("set_run")

    @property
    def run(self) -> NoReturn:
        """Refuses: there is no Flower server and no run of its own. Raises StrategyError."""
        raise _not_offered("run")


class LocalTransport:
    """Nodes in this process: each is a ClientApp with a context that lasts.

    An exception in an app goes through to the caller: here is nobody to hide it from. An app cannot
    be interrupted, so the time limit decides only which apps still start.

    Args:
        apps: a ClientApp by node id.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, apps: Mapping[int, ClientApp], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._apps = dict(apps)
        self._clock = clock
        self._contexts = {
            node: Context(run_id=0, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in self._apps
        }

    def nodes(self) -> list[int]:
        """Returns the node ids."""
        return list(self._apps)

    def exchange(self, requests: Sequence[Request], *, timeout_s: float | None) -> list[Reply]:
        """Runs the apps one after the other; a node whose turn comes too late replies an error."""
        started = self._clock()
        replies = []
        for request in requests:
            if timeout_s is not None and self._clock() - started > timeout_s:
                replies.append(Reply(request.node_id, error=f"no reply within {timeout_s} s"))
            else:
                replies.append(self._reply(request))
        return replies

    def _reply(self, request: Request) -> Reply:
        node = request.node_id
        message = Message(decode_record(request.body), node, request.kind)
        answer = self._apps[node](message, self._contexts[node])
        if answer.has_error():
            return Reply(node, error=answer.error.reason or "the app gave no reason")
        return Reply(node, body=encode_record(answer.content))


class CohortTransport:
    """The cohort as one node: for a strategy to address, while the tasks carry the messages."""

    def nodes(self) -> list[int]:
        """Returns the one id under which the cohort goes."""
        return [COHORT_NODE]

    def exchange(self, requests: Sequence[Request], *, timeout_s: float | None) -> NoReturn:
        """Refuses: dispatch and gather speak to hospitals, not to a grid. Raises StrategyError."""
        raise _not_offered("exchange")


def _message(reply: Reply, *, to: Message) -> Message:
    if reply.body is None:
        return Message(Error(_UNKNOWN_CAUSE, reply.error), reply_to=to)
    try:
        content = decode_record(reply.body)
    except WireError as error:
        return Message(Error(_UNKNOWN_CAUSE, f"unreadable reply: {error}"), reply_to=to)
    return Message(content, reply_to=to)


def _not_offered(name: str) -> StrategyError:
    return StrategyError(
        f"{name}: not offered here; a strategy configures and aggregates, the round loop sends"
    )
