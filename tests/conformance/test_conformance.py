"""Every pipeline class that can be built here keeps what is promised."""

from __future__ import annotations

import pytest
from tiny_pipelines import ALL_PIPELINES

from conformance import table
from conformance.examination import examine

pytestmark = pytest.mark.filterwarnings("ignore")

_NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if tiny.slow else name
    for name, tiny in ALL_PIPELINES.items()
]


@pytest.mark.parametrize("name", _NAMES)
def test_pipeline_conforms(name: str) -> None:
    facts = examine(ALL_PIPELINES[name])
    assert facts.calls_made < facts.calls
    assert table.rows().get(name) == table.row_of(name, facts), (
        "docs/pipelines.md says otherwise; if this is as it should be, "
        f"run: python tests/conformance/table.py {name}"
    )
