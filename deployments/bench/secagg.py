"""``make bench-secagg``: what masking costs, beside Flower's SecAgg+ and the bare cipher.

CPU seconds of one client and of the server, of a round in one process: ours and Flower's in turns;
medians. Ours includes what Flower's leaves out: signatures, commitments, digests of the vectors
and, with a loss, echoes and a certificate. Packing for the wire is left out of ours and included in
Flower's, whose mod returns bytes; it is given as a figure of its own.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from rich.console import Console

from deployments.bench.cpu import Cost, CpuClock
from deployments.bench.flower_secagg import flower_round
from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.settings import StackSettings
from fl.messages import decode_upload, encode_upload
from privacy.secagg import (
    Identity,
    MemoryJournal,
    Participant,
    SecureSum,
    SumParameters,
    SumResult,
    Upload,
)

REPEATS: Final = {10**5: 5, 10**6: 3, 10**7: 1}
PARTIES: Final = (3, 10, 30)
LARGE: Final = 10**6
MODEL_HASH: Final = bytes(32)
_BLOCK_BYTES: Final = 1 << 18

T = TypeVar("T")


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    console = Console()
    figures: list[Figure] = []
    for dimension in REPEATS:
        for parties in PARTIES:
            for lost in (0,) if parties == 3 else (0, 1):
                console.print(f"{parties} parties, {dimension:.0e} parameters, {lost} lost …")
                figures += compared(parties=parties, dimension=dimension, lost=lost)
    figures += [*uploads(), *sixteen_bits(), memory_of_the_coordinator()]
    path = StackSettings().home / "bench" / "secagg.json"
    print_report(write_report(path, figures), console)
    return 0


def sum_parameters(parties: int, dimension: int, *, bits: int = 20) -> SumParameters:
    """Returns the parameters of a benchmark's sum, with the platform's quorum."""
    return SumParameters(
        session=bytes(16),
        roster=tuple(range(1, parties + 1)),
        quorum=max(3, 2 * parties // 3 + 1),
        dimension=dimension,
        bits=bits,
    )


def our_round(
    parameters: SumParameters,
    vectors: NDArray[np.float32],
    *,
    lost: int,
    served: Callable[[Callable[[], object]], object] = lambda step: step(),
) -> tuple[Cost, SumResult]:
    """Returns what a round costs and what it gives; the last ``lost`` never upload.

    Args:
        parameters: of the sum.
        vectors: float32 (parties, dimension), or one row for all parties.
        lost: parties that are lost between enrolment and upload.
        served: runs each step of the coordinator.
    """
    clock, parties = CpuClock(), len(parameters.roster)
    identities = {index: Identity.generate() for index in parameters.roster}
    roster = {index: identity.public for index, identity in identities.items()}
    hospitals = {
        index: Participant(index, parameters, identity, roster, journal=MemoryJournal())
        for index, identity in identities.items()
    }
    secure_sum = SecureSum(parameters, roster)

    def serve(step: Callable[[], T]) -> T:
        results: list[T] = []
        with clock.server():
            served(lambda: results.append(step()))
        return results[0]

    with clock.client(parties):
        enrolments = [hospital.enrol(1) for hospital in hospitals.values()]
    cohort = serve(lambda: secure_sum.begin(1, enrolments=enrolments, model_hash=MODEL_HASH))
    active = parameters.roster[: parties - lost]
    for index in active:
        with clock.client(len(active)):
            upload = hospitals[index].upload(
                1,
                cohort[index],
                model_hash=MODEL_HASH,
                vector=vectors[(index - 1) % len(vectors)],
                weight=1,
                counts=[],
            )
        serve(lambda upload=upload: secure_sum.add(upload))  # type: ignore[misc]
    survivors = serve(secure_sum.close)
    certificate = None
    if lost:
        with clock.client(len(active)):
            echoes = [hospitals[index].echo(1, survivors[index]) for index in active]
        for echo in echoes:
            serve(lambda echo=echo: secure_sum.add_echo(echo))  # type: ignore[misc]
        certificate = serve(secure_sum.certificate)
    with clock.client(len(active)):
        reveals = [hospitals[i].reveal(1, survivors[i], certificate) for i in active]
    result = serve(lambda: secure_sum.finish(reveals))
    return clock.cost(upload_bytes=upload.masked.nbytes), result


def compared(*, parties: int, dimension: int, lost: int) -> list[Figure]:
    """Returns what a round costs us, how much less than Flower, how much more than the cipher."""
    vectors = np.random.default_rng(0).normal(0, 0.1, (parties, dimension)).astype(np.float32)
    parameters = sum_parameters(parties, dimension)
    masking = parties if dimension < LARGE else 1
    ours: list[Cost] = []
    flower: list[Cost] = []
    bare_s: list[float] = []
    for _ in range(REPEATS[dimension]):
        cost, result = our_round(parameters, vectors, lost=lost)
        exact = vectors[: parties - lost].mean(axis=0, dtype=np.float64)
        if np.abs(result.mean - exact).max() > parameters.step * 1.01:
            raise RuntimeError("the sum is wrong: its costs say nothing")
        ours.append(cost)
        theirs, _ = flower_round(parties=parties, lost=lost, vectors=vectors, masking=masking)
        flower.append(theirs)
        bare_s.append(keystream_s(parties * parameters.dtype.itemsize * dimension + 2 * dimension))
    goal = dimension >= LARGE
    case = f"{parties} parties, 1e{len(str(dimension)) - 1} parameters, {lost} lost"
    pairs = list(zip(ours, flower, strict=True))
    return [
        figure(f"client, {case}", [c.client_s * 1e3 for c in ours], unit="CPU ms", better="lower"),
        figure(f"server, {case}", [c.server_s * 1e3 for c in ours], unit="CPU ms", better="lower"),
        figure(
            f"client, Flower / ours, {case}",
            [other.client_s / own.client_s for own, other in pairs],
            unit="×",
            better="higher",
            goal=8 if goal else None,
        ),
        figure(
            f"server, Flower / ours, {case}",
            [other.server_s / own.server_s for own, other in pairs],
            unit="×",
            better="higher",
            goal=20 if goal else None,
        ),
        figure(
            f"client / the keystream it needs, {case}",
            [own.client_s / bare for own, bare in zip(ours, bare_s, strict=True)],
            unit="×",
            better="lower",
            goal=2.5 if goal else None,
        ),
    ]


def keystream_s(size: int) -> float:
    """Returns the CPU seconds of so many bytes of AES-256-CTR alone, block by block in cache."""
    encryptor = Cipher(AES(os.urandom(32)), CTR(bytes(16))).encryptor()
    zeros, into = memoryview(bytes(_BLOCK_BYTES)), memoryview(bytearray(_BLOCK_BYTES))
    started = time.process_time()
    for at in range(0, size, _BLOCK_BYTES):
        length = min(_BLOCK_BYTES, size - at)
        encryptor.update_into(zeros[:length], into[:length])
    return time.process_time() - started


def one_upload(parameters: SumParameters) -> Upload:
    """Returns an upload of random values."""
    identities = {index: Identity.generate() for index in parameters.roster}
    roster = {index: identity.public for index, identity in identities.items()}
    hospitals = [
        Participant(index, parameters, identity, roster, journal=MemoryJournal())
        for index, identity in identities.items()
    ]
    views = SecureSum(parameters, roster).begin(
        1, enrolments=[hospital.enrol(1) for hospital in hospitals], model_hash=MODEL_HASH
    )
    vector = np.random.default_rng(0).normal(0, 0.1, parameters.dimension).astype(np.float32)
    return hospitals[0].upload(
        1, views[1], model_hash=MODEL_HASH, vector=vector, weight=1, counts=[]
    )


def uploads() -> list[Figure]:
    """Returns the size of a packed upload beside the same values as float32, and packing's cost."""
    figures: list[Figure] = []
    for bits in (20, 12):
        parameters = sum_parameters(10, LARGE, bits=bits)
        upload = one_upload(parameters)
        started = time.process_time()
        data = encode_upload(upload)
        packed = time.process_time()
        decode_upload(data, parameters=parameters)
        unpacked = time.process_time()
        form = f"{8 * parameters.dtype.itemsize}-bit form, 10 parties, 1e6 parameters"
        beyond = len(data) - parameters.dtype.itemsize * LARGE
        figures += [
            figure(
                f"upload / float32, {form}",
                [len(data) / (4 * LARGE)],
                unit="×",
                better="lower",
                goal=parameters.dtype.itemsize / 4 + 0.001,
            ),
            figure(f"upload beyond its elements, {form}", [beyond], unit="bytes", better="lower"),
            figure(f"packing, {form}", [(packed - started) * 1e3], unit="CPU ms", better="lower"),
            figure(
                f"unpacking, {form}", [(unpacked - packed) * 1e3], unit="CPU ms", better="lower"
            ),
        ]
    return figures


def sixteen_bits() -> list[Figure]:
    """Returns the error of the mean that the 16-bit form makes."""
    parameters = sum_parameters(10, LARGE, bits=12)
    vectors = np.random.default_rng(0).uniform(-1, 1, (10, LARGE)).astype(np.float32)
    _, result = our_round(parameters, vectors, lost=0)
    error = result.mean - vectors.mean(axis=0, dtype=np.float64)
    case = "of the mean, 16-bit form, 10 parties, of the clip"
    return [
        figure(f"root mean square error {case}", [_rms(error)], unit="", better="lower"),
        figure(f"largest error {case}", [float(np.abs(error).max())], unit="", better="lower"),
    ]


def memory_of_the_coordinator() -> Figure:
    """Returns the most memory the coordinator adds, beside the upload at hand, in vectors."""
    parameters = sum_parameters(100, LARGE)
    vectors = np.random.default_rng(0).normal(0, 0.1, (1, LARGE)).astype(np.float32)
    held = peak = 0

    def measured(step: Callable[[], object]) -> object:
        nonlocal held, peak
        tracemalloc.start()
        step()
        kept, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peak = max(peak, held + most)
        held += kept
        return None

    our_round(parameters, vectors, lost=1, served=measured)
    return figure(
        "peak memory the coordinator adds, 100 parties, 1e6 parameters, 1 lost",
        [peak / (parameters.length * parameters.dtype.itemsize)],
        unit="vectors",
        better="lower",
        goal=10,
    )


def _rms(error: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(error).mean()))


if __name__ == "__main__":
    sys.exit(main())
