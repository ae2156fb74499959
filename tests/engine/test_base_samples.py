"""What the base model writes by itself is a slice of the general suite, the same for all runs on that base."""

from __future__ import annotations

import json
import shutil
import signal

import torch
from tiny import decoder, weather
from transformers import AutoTokenizer, LlamaForCausalLM
from workers import finish, make_run, measured, of_kind, small, start, wait_for, work

from engine.bundled.catalogue import model_path
from engine.evals import base_samples

CPU = torch.device("cpu")
SAMPLES = 12


def texts(run) -> list[str]:
    rows = next(e["rows"] for e in of_kind(run, 1, "examples") if e["suite"] == "general")
    return [row["target"] for row in rows]


def test_samples_are_whole_texts_and_leave_the_random_numbers_alone():
    path = model_path("stdlib-2m")
    model, tokenizer = LlamaForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = base_samples.draw(model, tokenizer, SAMPLES, CPU, lambda: None)
    assert torch.equal(torch.rand(3), expected)
    assert drawn == base_samples.draw(model, tokenizer, SAMPLES, CPU, lambda: None)
    assert len(drawn) == SAMPLES
    assert len({tuple(tokens) for tokens in drawn}) > SAMPLES / 2
    for tokens in drawn:
        assert tokens[0] == tokenizer.bos_token_id
        assert len(tokens) <= 1 + base_samples.MAX_TOKENS
        assert tokenizer.eos_token_id not in tokens[1:-1]


def test_runs_on_one_base_watch_the_same_samples_and_a_resumed_run_its_own(tmp_path):
    questions = [
        {"question": f"What is {n}?", "choices": ["a number", "a name"], "answer": 0} for n in range(3)
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    ends = {"evals__samples": SAMPLES, "evals__drift": 2, "evals__choices": {"q": str(tmp_path / "q.jsonl")}}
    one = make_run(tmp_path / "runs" / "000001-one", small(method="lora", **ends))
    process = start(one)
    wait_for(one, 1, "checkpoint", process, step=4)
    process.kill()
    assert finish(process) == -signal.SIGKILL
    cache = (tmp_path / "cache").rename(tmp_path / "aside")
    assert work(one, attempt=2) == 0, one.attempt(2).stdout.read_text()
    first, later = measured(one)[0, "general"], measured(one, 2)[6, "general"]
    for kind, lines in (("drift", 2), ("choices", 1)):  # at both ends only
        assert [e["step"] for e in of_kind(one, 1, kind)] == [0] * lines
        assert [e["step"] for e in of_kind(one, 2, kind)] == [6] * lines
    assert later["id"] == first["id"]
    assert later["slice"] == first["slice"] == sorted(first["slice"], reverse=True)
    assert first["slice"].count("text") == 8
    assert SAMPLES / 2 < first["slice"].count("samples") <= SAMPLES
    assert all("slice" not in measured(one)[0, suite] for suite in ("heldout", "seen"))

    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    cache.rename(tmp_path / "cache")
    other = make_run(tmp_path / "runs" / "000002-other", small(method="qlora", **ends))
    assert work(other) == 0, other.attempt(1).stdout.read_text()
    assert texts(other) == texts(one)


def test_a_model_without_a_beginning_has_none(tmp_path):
    data = {"train": str(weather(tmp_path / "weather.jsonl")), "heldout": 8}
    changes = {"task": "completion", "data": data, "train__max_steps": 1, "evals__samples": 4}
    model = str(decoder(tmp_path / "tiny"))
    run = make_run(tmp_path / "000001-tiny", small(model=model, method="full", **changes))
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    assert "slice" not in measured(run)[0, "general"]
    assert any("no beginning-of-sequence token" in e["message"] for e in of_kind(run, 1, "log"))


def test_samples_that_are_gone_are_not_drawn_again(tmp_path):
    path = tmp_path / "base-samples.json"
    assert base_samples.read_or_draw(path, lambda: [[1, 2]], may_draw=False) == []
    assert base_samples.read_or_draw(path, lambda: [[1, 2]], may_draw=True) == [[1, 2]]
    assert base_samples.read_or_draw(path, lambda: [[3]], may_draw=True) == [[1, 2]]
    assert [file.name for file in tmp_path.iterdir()] == ["base-samples.json"]
