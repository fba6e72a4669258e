from pathlib import Path

import pytest

from exfm.distill.config import ConfigError, TrainConfig, load_config


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_source_without_packaged_settings_gets_the_defaults() -> None:
    assert load_config("nobody_knows") == TrainConfig()


def test_packaged_settings_are_chosen_by_the_sources_name() -> None:
    assert load_config("kuairand_pure").student.rates.multipliers["user_id"] == 30.0
    assert load_config("kuairandom") == TrainConfig()


def test_a_file_goes_over_the_packaged_settings_key_by_key(tmp_path: Path) -> None:
    path = written(tmp_path, "[stream]\nchunk = 64\n[student.rates.multipliers]\nuser_id = 7\n")
    config, packaged = load_config("kuairand_pure", path, {"seed": 5}), load_config("kuairand_pure")
    assert config.stream.chunk == 64
    assert config.stream.batch == packaged.stream.batch
    assert config.student.rates.multipliers == {**packaged.student.rates.multipliers, "user_id": 7.0}
    assert config.seed == 5


def test_the_teachers_average_is_its_own_default(tmp_path: Path) -> None:
    config = load_config("x", written(tmp_path, "[teacher.rates]\ndense = 0.002\n"))
    assert config.teacher.rates.average == TrainConfig().teacher.rates.average


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chunk = 3", r"mine\.toml: unknown key 'chunk'"),
        ("[history]\nlength = 3", r"mine\.toml: history\.delay_ms: must be given, >= 0, .* until the online store has"),
        ("[history]\nlength = 3\ndelay_ms = -1", r"mine\.toml: history\.delay_ms: must be given"),
        ("[stream]\nchunks = 3", "unknown key 'stream.chunks'; known here: batch, chunk"),
        ("[student.rates]\ntabel = 3", "unknown key 'student.rates.tabel'"),
        ("[stream]\nchunk = 'big'", "stream.chunk: expected int, got 'big'"),
        ("[stream]\nchunk = true", "stream.chunk: expected int, got True"),
        ("[stream]\nchunk = 0", "chunk and batch must be >= 1, got 0"),
        ("stream = 3", "stream: expected a table"),
        ("[counters]\nkeys = [1]", "counters.keys: expected a list of strings"),
        ("[counters]\nkeys = []", "counters.keys: the teacher needs at least one"),
        ("[student.rates.multipliers]\nuser_id = 'x'", "student.rates.multipliers.user_id: expected float"),
        ("[student", r"mine\.toml: Expected"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("simulator", written(tmp_path, text))


def test_a_table_given_in_part_keeps_the_rest(tmp_path: Path) -> None:
    smoothing = load_config("x", written(tmp_path, "[counters.smoothing]\nad = 3\n")).counters.smoothing
    assert smoothing == {**TrainConfig().counters.smoothing, "ad": 3.0}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load_config("simulator", tmp_path / "nowhere.toml")
