"""Where chunks are computed: an engine that cannot be had is refused in one line."""

from __future__ import annotations

import pytest

from mnist_adv.evaluation.measure import run

ADDRESSES = [
    "",
    "seven",
    "tcp://",
    "tcp://h",
    "http://x:1",
    "inproc://x",
    "ucx://x:1",
    "tcp://a\n:1",
]


@pytest.mark.parametrize("scheduler", [*ADDRESSES, "tcp://h:123456", "x" * 5000])
def test_a_scheduler_that_is_none_is_named(scheduler: str) -> None:
    with pytest.raises(
        ValueError, match=r"scheduler must be tcp://host:port\. Received: '"
    ) as caught:
        run.Engine(run.Backend.DASK, scheduler=scheduler)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "scheduler", ["tcp://127.0.0.1:8786", "tls://a-host.example:1", "tcp://[::1]:9"]
)
def test_an_address_is_taken(scheduler: str) -> None:
    assert run.Engine(run.Backend.DASK, scheduler=scheduler).scheduler == scheduler


@pytest.mark.parametrize("jobs", [0, -1, 4097, 2**63, 9223372036854775808])
def test_jobs_are_bounded(jobs: int) -> None:
    with pytest.raises(ValueError, match=r"jobs must be an integer in 1\.\.4096"):
        run.Engine(jobs=jobs)
