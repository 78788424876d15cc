"""The grid: Flower's messages over a transport of bytes, in a fixed order, failures named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from fl.errors import RoundError, StrategyError
from fl.grid import (
    CohortTransport,
    LocalTransport,
    Reply,
    Request,
    TransportGrid,
)
from fl.records import encode_record


class Scripted:
    """A transport that notes what it is asked and answers as told."""

    def __init__(self, answer: Callable[[Sequence[Request]], list[Reply]]) -> None:
        self.asked: list[Request] = []
        self.timeout_s: float | None = None
        self._answer = answer

    def nodes(self) -> list[int]:
        return [30, 10, 20]

    def exchange(self, requests: Sequence[Request], *, timeout_s: float | None) -> list[Reply]:
        self.asked, self.timeout_s = list(requests), timeout_s
        return self._answer(requests)


def content(value: int) -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.full((2, 2), value, np.float32))}),
            "config": ConfigRecord({"server-round": value}),
        }
    )


def messages(grid: TransportGrid, nodes: list[int]) -> list[Message]:
    return [grid.create_message(content(n), "train", n, "1") for n in nodes]


def echo(requests: Sequence[Request]) -> list[Reply]:
    return [Reply(r.node_id, body=r.body) for r in reversed(requests)]


def test_messages_cross_as_bytes_and_replies_come_in_the_order_of_nodes() -> None:
    transport = Scripted(echo)
    grid = TransportGrid(transport)
    assert grid.get_node_ids() == [10, 20, 30]
    replies = grid.send_and_receive(messages(grid, [20, 30, 10]), timeout=7.5)
    assert [r.node_id for r in transport.asked] == [10, 20, 30]
    assert {r.kind for r in transport.asked} == {"train"}
    assert transport.timeout_s == 7.5
    assert [r.metadata.src_node_id for r in replies] == [10, 20, 30]
    assert [r.content["config"]["server-round"] for r in replies] == [10, 20, 30]
    np.testing.assert_array_equal(replies[1].content["arrays"]["w"].numpy(), np.full((2, 2), 20))


def test_failures_are_error_replies_of_their_nodes_and_the_silent_are_left_out() -> None:
    def answer(requests: Sequence[Request]) -> list[Reply]:
        return [Reply(20, body=b"no record"), Reply(10, error="disk full")]

    grid = TransportGrid(Scripted(answer))
    full, unreadable = grid.send_and_receive(messages(grid, [10, 20, 30]))
    assert (full.metadata.src_node_id, full.error.reason) == (10, "disk full")
    assert unreadable.metadata.src_node_id == 20
    assert unreadable.error.reason.startswith("unreadable reply: ")


@pytest.mark.parametrize(
    ("nodes", "reply_nodes", "message"),
    [
        ([10, 10], [], "two messages to node 10"),
        ([10], [20], "from node 20, which was not asked"),
        ([10], [10, 10], "second reply from node 10"),
    ],
)
def test_a_confused_exchange_is_refused(
    nodes: list[int], reply_nodes: list[int], message: str
) -> None:
    grid = TransportGrid(Scripted(lambda _: [Reply(n, error="x") for n in reply_nodes]))
    with pytest.raises(RoundError, match=message):
        grid.send_and_receive(messages(grid, nodes))


def test_a_grid_offers_one_way_to_send() -> None:
    grid = TransportGrid(CohortTransport())
    with pytest.raises(StrategyError, match="push_messages: not offered"):
        grid.push_messages([])
    with pytest.raises(StrategyError, match="pull_messages: not offered"):
        grid.pull_messages([])
    with pytest.raises(StrategyError, match="set_run: not offered"):
        grid.set_run(None)
    with pytest.raises(StrategyError, match="run: not offered"):
        _ = grid.run


def test_the_cohort_is_one_node_that_no_grid_speaks_to() -> None:
    grid = TransportGrid(CohortTransport())
    (node,) = grid.get_node_ids()
    with pytest.raises(StrategyError, match="exchange: not offered"):
        grid.send_and_receive(messages(grid, [node]))


@pytest.mark.parametrize(("body", "error"), [(None, None), (b"", "why")])
def test_a_reply_is_a_body_or_an_error(body: bytes | None, error: str | None) -> None:
    with pytest.raises(ValueError, match="node 4"):
        Reply(4, body=body, error=error)


def counting_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seen = context.state.metric_records.get("seen", MetricRecord({"n": 0}))
        context.state["seen"] = MetricRecord({"n": seen["n"] + 1})
        metrics = MetricRecord({"n": context.state["seen"]["n"], "node": context.node_id})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(Error(0, "no held-out rows"), reply_to=message)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        raise RuntimeError("a bug in the app")

    return app


def test_local_nodes_run_their_apps_and_keep_their_state() -> None:
    grid = TransportGrid(LocalTransport({2: counting_app(), 1: counting_app()}))
    grid.send_and_receive(messages(grid, [1]))
    replies = grid.send_and_receive(messages(grid, [1, 2]))
    assert [(r.content["metrics"]["node"], r.content["metrics"]["n"]) for r in replies] == [
        (1, 2),
        (2, 1),
    ]


def test_an_error_of_an_app_is_a_reply_and_an_exception_goes_through() -> None:
    transport = LocalTransport({1: counting_app()})
    body = encode_record(content(0))
    (reply,) = transport.exchange([Request(1, "evaluate", body)], timeout_s=None)
    assert reply == Reply(1, error="no held-out rows")
    with pytest.raises(RuntimeError, match="a bug in the app"):
        transport.exchange([Request(1, "query", body)], timeout_s=None)


def test_a_node_whose_turn_comes_too_late_is_not_started() -> None:
    ticks = iter([0.0, 1.0, 11.0])
    apps = {1: counting_app(), 2: counting_app()}
    transport = LocalTransport(apps, clock=lambda: next(ticks))
    body = encode_record(content(0))
    requests = [Request(1, "train", body), Request(2, "train", body)]
    on_time, late = transport.exchange(requests, timeout_s=10)
    assert on_time.error is None
    assert late == Reply(2, error="no reply within 10 s")
