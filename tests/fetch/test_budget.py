"""The memory that large bodies share."""

from __future__ import annotations

import asyncio

import pytest

from curation.fetch.budget import Budget


def test_who_finds_nothing_waits_and_goes_in_order() -> None:
    async def run() -> list[str]:
        budget = Budget(10)
        log: list[str] = []

        async def user(name: str, count: int) -> None:
            taken = await budget.take(count)
            log.append(f"{name} {taken}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            budget.give_back(taken)

        await asyncio.gather(user("a", 6), user("b", 6), user("small", 1), user("c", 4))
        assert await budget.take(10) == 10, "all was given back"
        return log

    assert asyncio.run(run()) == ["a 6", "b 6", "small 1", "c 4"]


def test_who_asks_for_more_than_there_is_gets_all() -> None:
    assert asyncio.run(Budget(10).take(1000)) == 10


def test_cancelled_waiters_hold_nothing_and_hold_up_nobody() -> None:
    async def run() -> None:
        budget = Budget(10)
        held = await budget.take(8)
        large, small = asyncio.create_task(budget.take(9)), asyncio.create_task(budget.take(2))
        await asyncio.sleep(0)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        assert await small == 2
        # Cancelled in the very moment in which its turn comes.
        late = asyncio.create_task(budget.take(8))
        await asyncio.sleep(0)
        budget.give_back(held)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        budget.give_back(2)
        assert await budget.take(10) == 10

    asyncio.run(asyncio.wait_for(run(), 10))
