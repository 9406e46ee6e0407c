"""Parameters without a gradient and layers that do not move, each told once."""

from __future__ import annotations

import math

from stages.lib.dead import DeadWatch, layer_of

NAMES = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight",
         "model.layers.1.input_layernorm.weight", "model.norm.weight")
UP = NAMES[1]


def looks(watch: DeadWatch, gradients: list[float], moved: bool = True) -> list[list[str]]:
    """What is told when the gradient of UP takes these norms; `moved`: layer 1 moves."""
    told = []
    for at, norm in enumerate(gradients):
        weights = {name: 10.0 + (at + 1) / 1000 * (moved or not name.startswith("model.layers.1")) for name in NAMES}
        told.append(watch.see(at + 1, {name: norm if name == UP else 0.5 for name in NAMES}, weights))
    return told


def test_a_gradient_that_is_zero_three_looks_in_a_row_is_told_by_name() -> None:
    """ALB-043: `up` was never trained. ALB-038: gradients did not reach the layers."""
    told = looks(DeadWatch(), [0.5, 0.0, 0.0, 0.0])
    assert told[:3] == [[], [], []]
    assert told[3] == [f"{UP} has a gradient of 0, beside a median of 0.5: at each of 3 looks up to step 4"]


def test_one_that_is_almost_zero_beside_the_others_is_too_and_one_that_is_only_small_is_not() -> None:
    assert len(looks(DeadWatch(), [1e-9] * 3)[2]) == 1
    assert looks(DeadWatch(), [1e-5] * 9) == [[]] * 9


def test_it_is_told_once_and_again_only_after_it_was_alive() -> None:
    told = looks(DeadWatch(), [0.0] * 6 + [0.5] + [0.0] * 3)
    assert [len(one) for one in told] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]


def test_two_looks_are_not_enough() -> None:
    assert looks(DeadWatch(), [0.0, 0.0, 0.5] * 3) == [[]] * 9


def test_when_every_gradient_is_zero_every_one_is_told() -> None:
    watch = DeadWatch(looks=1)
    assert len(watch.see(1, dict.fromkeys(NAMES, 0.0), dict.fromkeys(NAMES, 1.0))) == 5


def test_a_layer_whose_weights_stay_as_they_are_is_told_and_one_of_its_parts_alone_is_not() -> None:
    """ALB-125: in 20 of 24 layers nothing moved, unseen."""
    told = looks(DeadWatch(), [0.5] * 5, moved=False)
    assert [len(one) for one in told] == [0, 0, 0, 1, 0]
    assert told[3] == ["model.layers.1 has not moved in 3 looks up to step 4"]
    part, watch = NAMES[3], DeadWatch(looks=1)
    for at in range(4):
        weights = {name: 10.0 + at * (name != part) for name in NAMES}
        assert watch.see(at, dict.fromkeys(NAMES, 0.5), weights) == []


def test_a_step_with_a_norm_that_is_no_number_is_not_looked_at() -> None:
    watch = DeadWatch(looks=1)
    assert watch.see(1, {UP: 0.0, "b": math.nan}, {}) == [] and watch.state() == DeadWatch().state()


def test_a_layer_is_what_stands_before_the_first_number() -> None:
    assert [layer_of(name) for name in NAMES[:3]] == ["model.embed_tokens.weight", "model.layers.0", "model.layers.1"]
    assert layer_of("model.layers.3.experts.7.up_proj.weight") == "model.layers.3"
