"""What XLA cannot compile runs all the same, and says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.tensors.compilation import NotCompiledWarning, compiled


def test_an_error_of_the_function_does_not_cost_the_compilation(xla: None) -> None:
    traced: list[str] = []

    def function(values: Any, wrong: bool) -> Any:
        traced.append("eager" if tf.executing_eagerly() else "graph")
        if wrong:
            raise TypeError("a mistake of the caller")
        return 2 * values

    call = compiled(function)
    with pytest.raises(TypeError, match="a mistake of the caller"):
        call(tf.ones([2]), True)
    traced.clear()
    np.testing.assert_array_equal(call(tf.ones([2]), False), [2, 2])
    assert traced == ["graph"]


def test_what_xla_cannot_compile_runs_as_a_graph_and_says_so_once(
    recwarn: pytest.WarningsRecorder, xla: None
) -> None:
    def function(values: Any) -> Any:
        return 2 * tf.strings.to_number(tf.strings.as_string(values))

    call = compiled(function)
    with pytest.warns(NotCompiledWarning, match="runs without XLA"):
        assert float(call(tf.ones([]))) == 2
    assert float(call(tf.ones([]))) == 2
    assert not recwarn.list


def test_many_programs_of_one_code_are_not_taken_for_retracing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(30):

        def function(values: Any, number: int = number) -> Any:
            return values + number

        assert float(compiled(function)(tf.zeros([]))) == number
    assert not caplog.records
