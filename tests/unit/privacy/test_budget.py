"""The budget's rules: what is accepted, what is refused and with which figure."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import adaptive_epsilon
from privacy.accounts import Accounts
from privacy.budget import accept, replay
from privacy.errors import BudgetExceeded, ChargeConflict
from privacy.ledger import Charge, Entry, Limits, Part, Release, Reservation
from privacy.mechanisms import Composed, Gaussian, Repeated
from privacy.pricing import declared_epsilon

DELTA = 1e-5
LIMITS = Limits(epsilon_per_training=4.0, epsilon_total=6.0, delta=DELTA)
STEP, COUNT = Gaussian(5.0), Gaussian(8.0)
ONE, OTHER, THIRD = (UUID(int=n) for n in (1, 2, 3))
ROUNDS = 4


def rows(training: UUID, cohort: str = "all", split: str = "s", table: str = "t") -> dict[str, Any]:
    return {"training": training, "cohort": cohort, "fingerprint": table, "split": split}


def reservation(training: UUID, *, step: Gaussian = STEP, **where: str) -> Reservation:
    return Reservation(
        **rows(training, **where),
        rounds=ROUNDS,
        mechanisms={"training": Repeated(step, ROUNDS), "held-out": Repeated(COUNT, ROUNDS + 1)},
    )


def charge(
    training: UUID, number: int, part: Part = "training", *, attempt: int = 0, **where: str
) -> Charge:
    return Charge(
        **rows(training, **where),
        number=number,
        round_id=UUID(int=training.int * 10_000 + number * 100 + attempt),
        part=part,
        mechanism=STEP if part == "training" else COUNT,
    )


def accepted(accounts: Accounts, *wanted: Entry, limits: Limits = LIMITS) -> tuple[Entry, ...]:
    new = accept(accounts, wanted, limits)
    for entry in new:
        accounts.add(entry)
    return new


def total(accounts: Accounts) -> float:
    return accounts.committed_epsilon("all", delta=DELTA)


def test_an_accepted_plan_counts_before_anything_is_spent() -> None:
    accounts = Accounts()
    (written,) = accepted(accounts, reservation(ONE))
    assert written == replace(reservation(ONE), limits=LIMITS)
    assert accounts.spent_epsilon("all", delta=DELTA) == 0
    assert total(accounts) == adaptive_epsilon(Composed((Repeated(STEP, ROUNDS),)), delta=DELTA)
    # A declared plan alone is priced as one: never above what is chosen on the way.
    alone = accounts.committed_epsilon("all", delta=DELTA, training=ONE)
    assert alone == declared_epsilon(Composed((Repeated(STEP, ROUNDS),)), delta=DELTA)
    assert alone <= total(accounts)


def test_charges_inside_a_reservation_change_the_total_by_nothing() -> None:
    accounts = Accounts()
    accepted(accounts, reservation(ONE))
    before = total(accounts)
    spent = [0.0]
    for number in range(1, ROUNDS + 1):
        assert len(accepted(accounts, charge(ONE, number), charge(ONE, number, "held-out"))) == 2
        spent.append(accounts.spent_epsilon("all", delta=DELTA))
    assert total(accounts) == before == spent[-1]
    assert spent == sorted(set(spent))


def test_one_part_and_the_other_are_not_added_up() -> None:
    accounts = Accounts()
    accepted(accounts, charge(ONE, 1))
    alone = total(accounts)
    accepted(accounts, charge(ONE, 1, "held-out"))
    assert total(accounts) == alone
    for number in range(2, 10):
        accepted(accounts, charge(ONE, number, "held-out"))
    assert total(accounts) == adaptive_epsilon(Composed((Repeated(COUNT, 9),)), delta=DELTA)
    assert total(Accounts(accounts.charges)) == total(accounts)


def test_with_a_new_split_key_they_are() -> None:
    accounts = Accounts()
    accepted(accounts, charge(ONE, 1), charge(ONE, 1, "held-out"), charge(ONE, 2, split="new"))
    both = Composed((Repeated(STEP, 2), Repeated(COUNT, 1)))
    assert accounts.splits("all") == 2
    assert total(accounts) == pytest.approx(adaptive_epsilon(both, delta=DELTA), rel=1e-12)
    assert accounts.spent_epsilon("all", delta=DELTA, training=ONE) == total(accounts)


def test_a_repeated_round_is_charged_beyond_the_reservation_while_there_is_room() -> None:
    accounts = Accounts()
    accepted(accounts, reservation(ONE))
    for number in range(1, ROUNDS + 1):
        accepted(accounts, charge(ONE, number))
    before = total(accounts)
    accepted(accounts, charge(ONE, ROUNDS, attempt=1))
    assert total(accounts) > before
    more = [charge(ONE, ROUNDS, attempt=attempt) for attempt in range(2, 100)]
    with pytest.raises(BudgetExceeded, match="this training would cost epsilon"):
        list(map(partial(accepted, accounts), more))
    assert total(accounts) <= LIMITS.epsilon_total


def test_a_second_charge_of_an_attempt_counts_once() -> None:
    accounts = Accounts()
    assert len(accepted(accounts, charge(ONE, 1), charge(ONE, 1))) == 1
    assert accepted(accounts, charge(ONE, 1)) == ()
    assert accepted(accounts, charge(ONE, 1, table="with more rows")) == ()
    accounts.add(charge(ONE, 1))
    assert len(accounts.charges) == 1


OTHER_FACTS = [
    {"mechanism": Gaussian(50.0)},
    *({"training": OTHER}, {"number": 2}, {"cohort": "women"}),
]


@pytest.mark.parametrize("changes", OTHER_FACTS)
def test_an_attempt_is_not_charged_with_something_else(changes: dict[str, Any]) -> None:
    accounts = Accounts()
    accepted(accounts, charge(ONE, 1))
    with pytest.raises(ChargeConflict, match="for round 1 of training 0"):
        accept(accounts, [replace(charge(ONE, 1), **changes)], LIMITS)


def test_a_training_that_is_too_large_is_refused_with_its_price() -> None:
    limits = replace(LIMITS, epsilon_per_training=1.0)
    with pytest.raises(BudgetExceeded) as refused:
        accept(Accounts(), [reservation(ONE)], limits)
    assert str(refused.value) == (
        "this training would cost epsilon 1.56 at delta 1e-05; "
        "the hospital allows 1 for one training"
    )


def test_a_cohort_that_has_too_little_left_refuses_with_the_figures() -> None:
    accounts = Accounts()
    limits = replace(LIMITS, epsilon_total=2.2)
    accepted(accounts, reservation(ONE), limits=limits)
    with pytest.raises(BudgetExceeded) as refused:
        accept(accounts, [reservation(OTHER)], limits)
    after = adaptive_epsilon(Repeated(STEP, 2 * ROUNDS), delta=DELTA)
    left = 2.2 - total(accounts)
    assert 0 < left < 2.2 < after
    assert str(refused.value) == (
        f"cohort 'all' has epsilon {left - 0.005:.2f} of 2.2 left at delta 1e-05; "
        f"this training would take it to {after + 0.005:.2f}"
    )


def test_a_mechanism_of_several_parts_counts_as_its_parts() -> None:
    accounts = Accounts()
    parts = Composed((STEP, Repeated(Composed((STEP, COUNT)), 2)))
    accepted(accounts, replace(charge(ONE, 1), mechanism=parts))
    whole = Composed((Repeated(STEP, 3), Repeated(COUNT, 2)))
    assert total(accounts) == pytest.approx(adaptive_epsilon(whole, delta=DELTA), rel=1e-12)


def test_a_training_moved_to_another_cohort_is_released_in_both() -> None:
    accounts = Accounts()
    accepted(accounts, reservation(ONE), reservation(ONE, cohort="women", table="theirs"))
    accepted(accounts, reservation(OTHER, cohort="men", table="others"))
    accepted(accounts, Release(training=ONE, reason="person"))
    assert [accounts.committed_epsilon(name, delta=DELTA) for name in ("all", "women")] == [0, 0]
    assert accounts.is_open(OTHER)


def test_a_plan_that_costs_the_limit_fits() -> None:
    price = declared_epsilon(Composed((Repeated(STEP, ROUNDS),)), delta=DELTA)
    assert accept(Accounts(), [reservation(ONE)], replace(LIMITS, epsilon_per_training=price))


def test_all_is_accepted_or_nothing() -> None:
    accounts = Accounts()
    limits = replace(LIMITS, epsilon_total=2.2)
    with pytest.raises(BudgetExceeded):
        accept(accounts, [reservation(ONE), reservation(OTHER)], limits)
    assert accounts.cohorts == ()


def test_more_rows_continue_the_account_and_another_cohort_has_its_own() -> None:
    accounts = Accounts()
    limits = replace(LIMITS, epsilon_total=2.2)
    accepted(accounts, reservation(ONE), limits=limits)
    with pytest.raises(BudgetExceeded):
        accept(accounts, [reservation(OTHER, table="with more rows")], limits)
    accepted(accounts, reservation(OTHER, cohort="women", table="theirs"), limits=limits)
    assert accounts.cohorts == ("all", "women")
    assert accounts.trainings("women") == (OTHER,)
    assert (accounts.fingerprints("all"), accounts.fingerprints("women")) == (("t",), ("theirs",))


def test_what_was_never_used_is_free_again() -> None:
    accounts = Accounts()
    accepted(accounts, reservation(ONE), charge(ONE, 1))
    assert accounts.is_open(ONE)
    before = total(accounts)
    assert accepted(accounts, Release(training=ONE, reason="closed"))
    assert accepted(accounts, Release(training=ONE, reason="person")) == ()
    assert not accounts.is_open(ONE)
    assert total(accounts) == accounts.spent_epsilon("all", delta=DELTA) < before
    # Reserved once, released once: what comes later is charged as it comes.
    assert accepted(accounts, reservation(ONE)) == ()
    assert accepted(accounts, charge(ONE, 2))
    assert total(accounts) == adaptive_epsilon(Composed((Repeated(STEP, 2),)), delta=DELTA)


def test_lower_limits_count_from_the_next_round_on() -> None:
    accounts = Accounts()
    accepted(accounts, reservation(ONE), charge(ONE, 1))
    lower = replace(LIMITS, epsilon_per_training=1.2)
    # Another training is accepted under them; the first is over them all the same.
    accepted(accounts, reservation(OTHER, step=Gaussian(50.0)), limits=lower)
    with pytest.raises(BudgetExceeded, match=r"allows 1\.2 for one training"):
        accept(accounts, [charge(ONE, 2)], lower)
    assert accept(accounts, [charge(ONE, 2)], LIMITS)


def test_no_noise_to_speak_of_costs_no_finite_epsilon() -> None:
    with pytest.raises(BudgetExceeded):
        accept(Accounts(), [replace(charge(ONE, 1), mechanism=Gaussian(1e-6))], LIMITS)


STEPS = st.lists(
    st.one_of(
        st.builds(reservation, st.sampled_from([ONE, OTHER, THIRD])),
        st.builds(
            charge,
            st.sampled_from([ONE, OTHER, THIRD]),
            st.integers(1, 5),
            st.sampled_from(["training", "held-out"]),
            attempt=st.integers(0, 2),
        ),
        st.builds(Release, training=st.sampled_from([ONE, OTHER]), reason=st.just("closed")),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_the_limits_hold_and_what_is_spent_never_falls(
    steps: list[Entry],
) -> None:
    accounts, written, spent = Accounts(), list[Entry](), 0.0
    for step in steps:
        try:
            written += accepted(accounts, step)
        except BudgetExceeded:
            continue
        now = accounts.spent_epsilon("all", delta=DELTA)
        assert spent <= now <= total(accounts) <= LIMITS.epsilon_total * (1 + 1e-6)
        spent = now
        for training in accounts.trainings("all"):
            price = accounts.committed_epsilon("all", delta=DELTA, training=training)
            assert price <= LIMITS.epsilon_per_training * (1 + 1e-6)
    again = replay(written)
    assert total(again) == total(accounts)
    assert again.charges == accounts.charges


def test_a_replay_names_the_entry_that_could_not_have_been_accepted() -> None:
    accounts = Accounts()
    written = [*accepted(accounts, reservation(ONE), charge(ONE, 1))]
    with pytest.raises(ChargeConflict, match="entry 3: it changes nothing"):
        replay([*written, written[1]])
    over = replace(charge(ONE, 2), mechanism=Gaussian(0.5), limits=LIMITS)
    with pytest.raises(BudgetExceeded, match="entry 3: this training would cost"):
        replay([*written, over])
    # What a person made good is held to no limit, and everything after it is again.
    good = replay([*written, replace(over, limits=None)])
    with pytest.raises(BudgetExceeded):
        accept(good, [charge(ONE, 3)], LIMITS)


def test_ten_thousand_charges_are_folded_before_they_are_priced() -> None:
    accounts = Accounts()
    for number in range(10_000):
        accounts.add(replace(charge(ONE, number), mechanism=Gaussian(500.0), round_id=uuid4()))
    folded = adaptive_epsilon(Composed((Repeated(Gaussian(500.0), 10_000),)), delta=DELTA)
    assert total(accounts) == folded
