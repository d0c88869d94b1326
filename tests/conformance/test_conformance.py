"""Every pipeline class that can be built here keeps what is promised.

`make test` examines one of each family, `make test-all` all of them.
"""

from __future__ import annotations

import pytest
from tiny_pipelines import ALL_PIPELINES

from conformance import table
from conformance.examination import examine

pytestmark = pytest.mark.filterwarnings("ignore")


def family(name: str) -> str:
    """The package of diffusers that the pipeline's class is in, such as `flux`."""
    return ALL_PIPELINES[name].kind.__module__.split(".")[2]


_REPRESENTATIVES = {
    family(name): name for name, tiny in reversed(ALL_PIPELINES.items()) if not tiny.slow
}
"""The first of each family."""

_NAMES = [
    name
    if _REPRESENTATIVES.get(family(name)) == name
    else pytest.param(name, marks=pytest.mark.slow)
    for name in ALL_PIPELINES
]


@pytest.mark.parametrize("name", _NAMES)
def test_pipeline_conforms(name: str) -> None:
    facts = examine(ALL_PIPELINES[name])
    assert facts.calls_made < facts.calls
    assert table.rows().get(name) == table.row_of(name, facts), (
        "docs/pipelines.md says otherwise; if this is as it should be, "
        f"run: python tests/conformance/table.py {name}"
    )
