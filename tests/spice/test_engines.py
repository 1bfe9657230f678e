"""Two engines, one answer; and every way a deck can fail has its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import simple_decks as decks

from cosim.circuit.deck import Deck
from cosim.spice.batch import parse_raw
from cosim.spice.engine import Engine, Failed, Measured, Result, open_engine, read_out


@pytest.fixture(scope="module", params=["shared", "batch"])
def either(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Engine]:
    if request.param == "shared":
        yield engine
        return
    batch = open_engine("batch")
    yield batch
    batch.close()


def one(engine: Engine, deck: Deck, timeout_s: float = 30.0) -> Result:
    (result,) = engine.run([deck], timeout_s=timeout_s)
    return result


@pytest.mark.parametrize("make", [decks.rc, decks.column, decks.comparator])
def test_engines_agree(make: Callable[[], Deck], run_deck: Callable[[Deck], np.ndarray]) -> None:
    """1e-9 V is asked for: the same simulator, once through its library and once through its raw file."""
    deck = make()
    batch = one(open_engine("batch"), deck)
    assert isinstance(batch, Measured), batch
    shared = run_deck(deck)
    assert shared.shape == (len(deck.probes), len(deck.times_s))
    np.testing.assert_allclose(shared, batch.values, rtol=0, atol=1e-9)


def test_rc_follows_its_closed_form(either: Engine) -> None:
    """Backward start of the trapezoidal rule at 2 ps of 1 ns: an error of (h / tau)^2 / 12 a step, 1e-5 V is ample."""
    result = one(either, decks.rc((0.5e-9, 1e-9, 3e-9)))
    assert isinstance(result, Measured), result
    out, source = result.values
    np.testing.assert_allclose(out, 1 - np.exp(-np.array([0.5, 1.0, 3.0])), rtol=0, atol=1e-5)
    np.testing.assert_allclose(source, 1.0, rtol=0, atol=1e-12)


def test_results_come_in_the_order_of_the_decks(either: Engine) -> None:
    results = either.run([decks.rc((1e-9,)), decks.unknown_model(), decks.rc((2e-9,))], timeout_s=30.0)
    assert [type(result) for result in results] == [Measured, Failed, Measured]
    assert isinstance(results[0], Measured)
    assert isinstance(results[2], Measured)
    assert results[0].values[0, 0] == pytest.approx(1 - np.exp(-1), abs=1e-5)
    assert results[2].values[0, 0] == pytest.approx(1 - np.exp(-2), abs=1e-5)


@pytest.mark.parametrize(
    ("deck", "reason", "detail"),
    [
        (decks.unknown_model(), "bad_deck", "nocard"),
        (Deck("", ("out",), (1e-9,)), "bad_deck", "circuit"),
        (Deck("* text\nnothing\n.end\n", ("out",), (1e-9,)), "bad_deck", "nothing"),
        (Deck(decks.RC, ("nowhere",), (1e-9,)), "bad_deck", "no node nowhere"),
        (decks.no_transient(), "bad_deck", ""),
        (decks.too_short(), "no_convergence", "reached 5e-10 of 1e-09 s"),
        (decks.diverging(), "no_convergence", "too small"),
    ],
)
def test_a_failure_says_why(either: Engine, deck: Deck, reason: str, detail: str) -> None:
    failed = one(either, deck)
    assert isinstance(failed, Failed)
    assert failed.reason == reason
    assert detail in failed.detail
    assert "\n" not in failed.detail
    # Nothing of the failure is left for the next deck.
    assert isinstance(one(either, decks.rc()), Measured)


def test_a_deck_that_takes_too_long_costs_itself_only(either: Engine) -> None:
    failed = one(either, decks.endless(), timeout_s=0.5)
    assert failed == Failed("timeout", "no result within 0.5 s")
    assert isinstance(one(either, decks.rc()), Measured)


def test_read_out_refuses_what_is_not_finite() -> None:
    time_s, waves = np.array([0.0, 1.0, 2.0]), np.array([[0.0, 1.0, np.nan]])
    assert read_out(time_s, waves, (2.0,)) == Failed("not_finite", "a probe is NaN or infinite")
    assert isinstance(read_out(time_s, waves, (0.25,)), Measured)
    nothing = read_out(np.zeros(0), np.zeros((1, 0)), (1.0,))
    assert nothing == Failed("no_convergence", "the transient reached nothing of 1 s")


def test_read_out_interpolates_between_time_points() -> None:
    found = read_out(np.array([0.0, 1.0, 3.0]), np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]), (0.5, 2.0, 3.0))
    assert isinstance(found, Measured)
    np.testing.assert_array_equal(found.values, [[0.5, 1.5, 2.0], [5.0, 5.0, 5.0]])


@pytest.mark.parametrize(
    "raw", [b"", b"Title: x\nFlags: real\n", b"Flags: complex\nBinary:\n", b"Flags: real\nBinary:\n"]
)
def test_a_raw_file_cut_short_is_no_result(raw: bytes) -> None:
    with pytest.raises((ValueError, StopIteration)):
        parse_raw(raw)
