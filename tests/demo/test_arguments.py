import pytest

from demo.arguments import parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requests", "0"], "argument --requests: must be >= 1, got 0"),
        (["--requests", "many"], "argument --requests: must be a whole number, got 'many'"),
        (["--candidates", "0"], "argument --candidates: must be >= 1, got 0"),
        (["--rate", "0"], "argument --rate: must be positive and finite, got 0"),
        (["--rate", "nan"], "argument --rate: must be positive and finite, got nan"),
        (["--rate", "inf"], "argument --rate: must be positive and finite, got inf"),
        (["--rate", "fast"], "argument --rate: must be a number, got 'fast'"),
        (["--seed", "-1"], "argument --seed: must be >= 0, got -1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_teaches() -> None:
    text = parser().format_help()
    assert "examples:" in text
    assert "exit codes: 0 done; 1 a step failed; 2 bad usage" in text
