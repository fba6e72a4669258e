"""What is taken for granted of a backend of which nobody says how much it runs at once."""

import pytest

from serving.admission.choose import parallelism_for


@pytest.mark.parametrize(
    ("models", "calls", "cores", "expected"),
    [
        pytest.param(1, 2, 2, 1, id="two cores and three instances: one for the frontend"),
        pytest.param(2, 2, 2, 2, id="one for each model"),
        pytest.param(1, 2, 16, 1, id="no more than its instances"),
        pytest.param(1, 16, 16, 15, id="sixteen cores and as many instances as they want"),
        pytest.param(5, 2, 4, 4, id="no more than the cores"),
        pytest.param(1, 1, 1, 1, id="never none"),
    ],
)
def test_a_backend_runs_what_its_models_and_cores_allow(models: int, calls: int, cores: int, expected: int) -> None:
    assert parallelism_for(models, calls, cores) == expected
