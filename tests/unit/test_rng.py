"""Keys are fixed for ever: a stored run must draw the same tomorrow."""

from __future__ import annotations

from unetkit.core.rng import key, numpy_generator, torch_generator


def test_keys_are_golden() -> None:
    assert key(0, "augment", 3, 1) == 5907084630301490626
    assert 0 <= key(12345, "x") < 2**63


def test_every_part_and_the_order_matter() -> None:
    keys = {key(0, 1, 2), key(0, 2, 1), key(1, 1, 2), key(0, "1", 2), key(0, 12), key(0, 1, 2, 0)}
    assert len(keys) == 6


def test_generators_repeat() -> None:
    assert numpy_generator(1, "a").random() == numpy_generator(1, "a").random()
    assert torch_generator(1, "a").initial_seed() == torch_generator(1, "a").initial_seed()
