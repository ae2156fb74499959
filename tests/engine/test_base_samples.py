"""What the base model writes by itself is a suite of its own, the same for all runs on that base: a distance."""

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
from engine.evals.looks import read_looks
from engine.evals.once import read_or_make
from engine.recipe.fields import SAMPLE_TOKENS
from finetui.log import LogWriter

CPU = torch.device("cpu")
SAMPLES = 12


def texts(run) -> list[str]:
    rows = next(e["rows"] for e in of_kind(run, 1, "examples") if e["suite"] == "samples")
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
        assert len(tokens) <= 1 + SAMPLE_TOKENS
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
    first, later = measured(one)[0, "samples"], measured(one, 2)[6, "samples"]
    for kind, lines in (("drift", 2), ("choices", 1)):  # at both ends only
        assert [e["step"] for e in of_kind(one, 1, kind)] == [0] * lines
        assert [e["step"] for e in of_kind(one, 2, kind)] == [6] * lines
    assert later["id"] == first["id"]
    assert SAMPLES / 2 < len(first["id"]) <= SAMPLES
    assert len(measured(one)[0, "general"]["id"]) == 8
    assert all("slice" not in measured(one)[0, suite] for suite in ("heldout", "seen", "general", "samples"))
    values = {e["step"]: e["values"] for e in of_kind(one, 2, "eval") if e["suite"] == "samples"}
    assert values[6].keys() == {"distance", "kl"}
    assert values[6]["distance"]["n"] == len(first["id"])
    assert 0 < values[6]["kl"]["value"] < 5

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
    assert (0, "samples") not in measured(run)
    assert any("no beginning-of-sequence token" in e["message"] for e in of_kind(run, 1, "log"))


def test_what_is_decided_once_is_read_and_not_decided_again(tmp_path):
    path = tmp_path / "base-samples.json"
    assert read_or_make(path, "samples", list, lambda: [[1, 2]], may_make=False) == []
    assert read_or_make(path, "samples", list, lambda: [[1, 2]], may_make=True) == [[1, 2]]
    assert read_or_make(path, "samples", list, lambda: [[3]], may_make=True) == [[1, 2]]
    assert [file.name for file in tmp_path.iterdir()] == ["base-samples.json"]
    path.write_text('{"samples": 3}')
    assert read_or_make(path, "samples", list, lambda: [[3]], may_make=True) == [[3]]


def test_an_older_log_is_read_without_the_slice_that_they_were(tmp_path):
    run = make_run(tmp_path / "000001-old", small(method="lora"))
    log = LogWriter(run.attempt(1).events, "worker", 1, 1)
    names = ["prose", "samples", "code", "samples"]
    examples = {"id": list("abcd"), "nll": [8.0, 9.0, 7.0, 9.0], "tokens": [4] * 4, "right": [1] * 4}
    log.write("eval", step=0, suite="general", values={}, examples=examples | {"slice": names}, seconds=1.0)
    names = ["text", "samples", "text", "samples"]
    log.write("eval", step=2, suite="general", values={}, examples=examples | {"slice": names}, seconds=1.0)
    log.close()
    looks = read_looks(run, 2, 2)
    general = looks.history("general")
    assert (general.ids, general.slices, general.loss(0)) == (("a", "c"), ("prose", "code"), 15 / 8)
    assert looks.history("samples") is None
    assert not looks.forget_other_rows("general", {"a": 4, "c": 4})
