"""When a key may be loaded again behind its callers, against a model that forgets nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilient_cache.pauses import MOST, Pauses

moves = st.tuples(
    st.sampled_from(["a", "b", "c"]), st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.5, 2.0])
)


@given(st.lists(moves, max_size=30))
def test_a_pause_is_for_one_entry_and_those_before_it_until_it_is_over(
    script: list[tuple[str, int, float, float]],
) -> None:
    pauses, model, now = Pauses(), dict[str, tuple[int, float]](), 0.0
    for key, stamp, step, length in script:
        now += step
        pauses.put_locked(key, stamp, now + length, now)
        model[key] = stamp, now + length
        for name in "abcd":
            known = model.get(name, (0, 0.0))
            for asked in range(1, 6):
                assert pauses.paused(name, asked, now) is (asked <= known[0] and now < known[1])
        assert len(pauses) <= len(model)


def test_a_pause_ends_with_its_moment() -> None:
    pauses = Pauses()
    pauses.put_locked("a", 3, 2.0, 1.0)
    assert pauses.paused("a", 3, 1.9999)
    assert pauses.paused("a", 2, 1.9999)
    assert not pauses.paused("a", 4, 1.9999)
    assert not pauses.paused("a", 3, 2.0)
    assert not pauses.paused("b", 3, 1.0)


def test_one_that_is_over_goes_when_another_comes() -> None:
    pauses = Pauses()
    pauses.put_locked("a", 1, 2.0, 1.0)
    pauses.put_locked("b", 1, 9.0, 1.0)
    assert len(pauses) == 2
    pauses.put_locked("c", 1, 9.0, 2.0)
    assert len(pauses) == 2
    assert pauses.paused("b", 1, 2.0)
    pauses.put_locked("b", 2, 9.0, 3.0)  # again, so it is the youngest
    pauses.put_locked("d", 1, 9.0, 3.0)
    assert len(pauses) == 3


def test_too_many_forget_the_oldest() -> None:
    pauses = Pauses()
    for number in range(MOST):
        pauses.put_locked(str(number), 1, 9.0, 0.0)
    assert len(pauses) == MOST == 10_000
    assert pauses.paused("0", 1, 0.0)
    pauses.put_locked("one more", 1, 9.0, 0.0)
    assert len(pauses) == MOST
    assert not pauses.paused("0", 1, 0.0)
    assert pauses.paused("1", 1, 0.0)


def test_a_pause_that_is_renewed_is_the_youngest() -> None:
    pauses = Pauses()
    for number in range(MOST):
        pauses.put_locked(str(number), 1, 9.0, 0.0)
    pauses.put_locked("0", 2, 9.0, 0.0)
    pauses.put_locked("one more", 1, 9.0, 0.0)
    assert pauses.paused("0", 2, 0.0)
    assert not pauses.paused("1", 1, 0.0)
