"""config.toml: defaults, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.basics.errors import ConfigError
from engine.queue import config


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    chosen = config.read(tmp_path / "config.toml")
    assert (chosen.concurrency, chosen.grace_s, chosen.sample_every_s) == (None, 60.0, 2.0)


def test_what_is_written_counts(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("concurrency = 3\ngrace_s = 5\nsample_every_s = 0.5\n")
    assert config.read(path) == config.Config(concurrency=3, grace_s=5.0, sample_every_s=0.5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("concurency = 2", "key concurency: unknown key; did you mean `concurrency`?"),
        ("colour = 'red'", "key colour: unknown key; known keys: concurrency, grace_s, sample_every_s"),
        ("concurrency = 0", "key concurrency: input should be greater than or equal to 1 (got 0)"),
        ("grace_s = -1", "key grace_s: input should be greater than or equal to 0 (got -1)"),
        ("grace_s = 'long'", "key grace_s: input should be a valid number"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        config.read(path)
    assert str(caught.value).startswith(f"{path}, {sentence}")
    assert "\n" not in str(caught.value)


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("concurrency = 1\ngrace_s = = 2\n")
    with pytest.raises(ConfigError, match=r"config\.toml: not valid TOML: .*line 2"):
        config.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.read(path)
    for text in ("a = " + "[" * 3000, "a = '\0'"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"config\.toml: not valid TOML"):
            config.read(path)
