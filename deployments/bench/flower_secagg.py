"""The same round in Flower's SecAgg+: its own building blocks, called as its mod and workflow do.

    cost, mean = flower_round(parties=10, lost=1, vectors=vectors, masking=1)

The steps are those of ``flwr.client.mod.secure_aggregation.secaggplus_mod`` and
``flwr.server.workflow.secure_aggregation.secaggplus_workflow`` of Flower 1.32 with its default
ranges, all parties neighbours of one another; without messages, records and logging.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    decrypt,
    encrypt,
    generate_shared_key,
)
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from numpy.typing import NDArray

from deployments.bench.cpu import Cost, CpuClock

CLIPPING_RANGE: Final = 8.0
TARGET_RANGE: Final = 1 << 22
MOD_RANGE: Final = 1 << 32
MAX_WEIGHT: Final = 1000.0


@dataclass
class _Client:
    """One client of SecAgg+."""

    index: int
    threshold: int
    keys: tuple[bytes, bytes] = (b"", b"")
    private: tuple[bytes, bytes] = (b"", b"")
    public_keys: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)
    seed: bytes = b""
    seed_shares: dict[int, bytes] = field(default_factory=dict)
    key_shares: dict[int, bytes] = field(default_factory=dict)
    shared_keys: dict[int, bytes] = field(default_factory=dict)

    def set_up(self) -> tuple[bytes, bytes]:
        """Stage 0: two key pairs."""
        pairs = [generate_key_pairs() for _ in range(2)]
        first, second = (private_key_to_bytes(private) for private, _ in pairs)
        self.private = (first, second)
        first, second = (public_key_to_bytes(public) for _, public in pairs)
        self.keys = (first, second)
        return self.keys

    def share_keys(self, public_keys: Mapping[int, tuple[bytes, bytes]]) -> dict[int, bytes]:
        """Stage 1: shares of the seed and of the first private key, encrypted."""
        self.public_keys = public_keys
        self.seed = os.urandom(32)
        number = len(public_keys)
        seed_shares = create_shares(self.seed, self.threshold, number)
        key_shares = create_shares(self.private[0], self.threshold, number)
        sent: dict[int, bytes] = {}
        for at, (other, (_, key)) in enumerate(public_keys.items()):
            if other == self.index:
                self.seed_shares[other], self.key_shares[other] = seed_shares[at], key_shares[at]
                continue
            self.shared_keys[other] = generate_shared_key(
                bytes_to_private_key(self.private[1]), bytes_to_public_key(key)
            )
            plaintext = share_keys_plaintext_concat(
                self.index, other, seed_shares[at], key_shares[at]
            )
            sent[other] = encrypt(self.shared_keys[other], plaintext)
        return sent

    def mask(self, ciphertexts: Mapping[int, bytes], vector: NDArray[np.float32]) -> list[bytes]:
        """Stage 2: the masked vector."""
        for sender, ciphertext in ciphertexts.items():
            _, _, seed_share, key_share = share_keys_plaintext_separate(
                decrypt(self.shared_keys[sender], ciphertext)
            )
            self.seed_shares[sender], self.key_shares[sender] = seed_share, key_share
        ratio = round(1 / MAX_WEIGHT * TARGET_RANGE)
        parameters: list[Any] = parameters_multiply([vector], ratio / TARGET_RANGE)
        quantised: list[Any] = factor_combine(
            ratio, list(quantize(parameters, CLIPPING_RANGE, TARGET_RANGE))
        )
        shapes = [array.shape for array in quantised]
        quantised = parameters_addition(quantised, list(_mask(self.seed, shapes)))
        for other in ciphertexts:
            shared = generate_shared_key(
                bytes_to_private_key(self.private[0]),
                bytes_to_public_key(self.public_keys[other][0]),
            )
            combine = parameters_addition if self.index > other else parameters_subtraction
            quantised = combine(quantised, list(_mask(shared, shapes)))
        return [ndarray_to_bytes(array) for array in parameters_mod(quantised, MOD_RANGE)]

    def unmask(self, active: Sequence[int], dead: Sequence[int]) -> dict[int, bytes]:
        """Stage 3: shares of the active clients' seeds and of the dead ones' keys."""
        return {other: self.seed_shares[other] for other in active} | {
            other: self.key_shares[other] for other in dead
        }


def flower_round(
    *, parties: int, lost: int, vectors: NDArray[np.float32], masking: int
) -> tuple[Cost, NDArray[np.float64]]:
    """Returns what a round costs and the mean; the last ``lost`` vanish before their vector.

    Args:
        parties: clients of the round.
        lost: clients that are lost.
        vectors: float32 (parties, dimension).
        masking: how many clients mask a vector; to save time the others send the first one's
            again, and the mean is none.
    """
    threshold = 2 * parties // 3 + 1
    clock = CpuClock()
    clients = {i: _Client(i, threshold) for i in range(1, parties + 1)}
    with clock.client(parties):
        keys = {i: client.set_up() for i, client in clients.items()}
    with clock.client(parties):
        sent = {i: client.share_keys(keys) for i, client in clients.items()}
    active = list(range(1, parties + 1 - lost))
    masked: dict[int, list[bytes]] = {}
    for index in active[:masking]:
        ciphertexts = {i: boxes[index] for i, boxes in sent.items() if i != index}
        with clock.client(len(active[:masking])):
            masked[index] = clients[index].mask(ciphertexts, vectors[index - 1])
    for index in active[masking:]:
        masked[index] = masked[active[0]]
        for sender, boxes in sent.items():
            if sender != index:
                opened = decrypt(clients[index].shared_keys[sender], boxes[index])
                _, _, seed_share, key_share = share_keys_plaintext_separate(opened)
                clients[index].seed_shares[sender] = seed_share
                clients[index].key_shares[sender] = key_share
    total: list[Any] = []
    for index in active:
        with clock.server():
            arrived = [bytes_to_ndarray(data) for data in masked[index]]
            total = parameters_addition(total, arrived) if total else arrived
    dead = [index for index in clients if index not in active]
    with clock.client(len(active)):
        shares = {index: clients[index].unmask(active, dead) for index in active}
    with clock.server():
        total = parameters_mod(total, MOD_RANGE)
        (mean,) = _unmask(total, shares, keys, active, dead)
    return clock.cost(upload_bytes=sum(map(len, masked[active[0]]))), mean


def _unmask(
    total: list[Any],
    shares: Mapping[int, Mapping[int, bytes]],
    keys: Mapping[int, tuple[bytes, bytes]],
    active: Sequence[int],
    dead: Sequence[int],
) -> list[Any]:
    """The server's last stage: removes the masks and returns the mean."""
    shapes = get_parameters_shape(total)
    for index in keys:
        secret = combine_shares([revealed[index] for revealed in shares.values()])
        if index in active:
            total = parameters_subtraction(total, list(_mask(secret, shapes)))
            continue
        for other in active:
            shared = generate_shared_key(
                bytes_to_private_key(secret), bytes_to_public_key(keys[other][0])
            )
            combine = parameters_addition if index > other else parameters_subtraction
            total = combine(total, list(_mask(shared, shapes)))
    ratio, rest = factor_extract(parameters_mod(total, MOD_RANGE))
    means: list[Any] = list(dequantize(list(rest), CLIPPING_RANGE, TARGET_RANGE))
    for array in means:
        array += -(len(active) - 1) * CLIPPING_RANGE
        array *= TARGET_RANGE / max(int(ratio), 1)
    return means


def _mask(seed: bytes, shapes: list[tuple[int, ...]]) -> list[Any]:
    """The mask of a seed."""
    return list(pseudo_rand_gen(seed, MOD_RANGE, shapes))
