"""What is said of a flag, whether it comes from a log or from the store."""

from __future__ import annotations

from engine.flags import words

LOGGED = {
    "flag": "forgetting",
    "level": "warn",
    "step": 40,
    "since_step": 20,
    "suite": "general",
    "slice": "prose",
    "effect": 0.0712,
    "lo": 0.06,
    "hi": 0.08,
    "n": 100,
    "looks": 4,
    "lost": 31,
    "gained": 12,
    "forecast": {"step": 400, "value": 0.2, "lo": 0.15, "hi": 0.25},
    "actions": [{"text": "Do this.", "change": {}, "source": "lin2025"}, {"text": "Or that.", "source": ""}],
    "worst": [{"id": "e1", "before": 1.0, "after": 2.5}],
}


def test_all_that_was_measured_is_said():
    assert words.where(LOGGED) == "general, slice prose"
    assert dict(words.evidence(LOGGED)) == {
        "effect": "+0.071 nats per token (95% interval +0.060 to +0.080)",
        "seen on": "100 examples, at look 4",
        "tokens": "31 lost (right under the base, wrong now), 12 gained",
        "forecast": "+0.200 at step 400 (80% interval +0.150 to +0.250)",
    }
    assert words.advice(LOGGED) == ["Do this. [lin2025]", "Or that."]
    assert words.worst(LOGGED, {"e1": "a\ntext"}) == [("1.00 → 2.50", "a text")]
    assert words.worst(LOGGED, {}) == [("1.00 → 2.50", "e1")]


def test_a_row_of_the_store_reads_the_same():
    columns = {"forecast": 0.2, "forecast_step": 400, "forecast_lo": 0.15, "forecast_hi": 0.25}
    row = LOGGED | columns | {"actions": '[{"text": "Do this.", "source": "lin2025"}]'}
    assert words.evidence(row) == words.evidence(LOGGED)
    assert words.advice(row) == ["Do this. [lin2025]"]


def test_what_was_not_measured_is_left_out():
    nan = {"flag": "nan", "level": "critical", "step": 3, "suite": "train", "n": 0, "effect": None}
    assert words.evidence(nan) == []
    assert (words.where(nan), words.since(nan), words.worst(nan, {})) == ("training", 3, [])
    assert words.advice(nan | {"advice": ["An old log."]}) == ["An old log."]


def test_a_share_is_no_loss_and_steps_are_no_examples():
    endless = {"flag": "endless", "suite": "heldout", "effect": 1.0, "lo": 0.4, "hi": 1.0, "n": 4}
    assert words.evidence(endless) == [
        ("effect", "100% (95% interval 40% to 100%)"),
        ("seen on", "4 examples"),
    ]
    leak = {"flag": "leak", "suite": "heldout", "effect": 0.25, "n": 16, "looks": 0}
    assert words.evidence(leak) == [("effect", "25%"), ("seen on", "16 examples")]
    assert words.evidence(leak | {"effect": 0.025})[0] == ("effect", "2.5%"), "as its sentence has it"
    told = leak | {"effect": 0.1, "lo": 0.04, "hi": 0.16, "looks": 5}
    assert dict(words.evidence(told))["effect"].startswith("+0.100 nats per token (95%")
    jump = {"flag": "instability", "suite": "train", "effect": 2.0, "n": 50, "looks": 90}
    assert words.evidence(jump) == [("effect", "+2.000 nats per token"), ("seen on", "50 steps")]


def test_the_last_word_counts_and_the_gravest_comes_first():
    flags = [
        {"flag": "a", "suite": "x", "level": "warn", "step": 9},
        {"flag": "b", "suite": "x", "level": "critical", "step": 5},
        {"flag": "b", "suite": "x", "level": "warn", "step": 4},
        {"flag": "c", "suite": "x", "level": "info", "step": 1},
    ]
    assert [(flag["flag"], flag["step"]) for flag in words.newest(flags)] == [("b", 5), ("a", 9), ("c", 1)]


def test_what_another_program_wrote_is_passed_over():
    foul = {
        "flag": "mine", "level": "odd", "step": 3, "suite": None, "effect": None,
        "forecast": {"value": None, "step": 1},
        "actions": ["a word", {"change": {}}, {"text": 3}],
        "worst": [7, {"id": "e"}, {"id": ["e"], "before": None, "after": 1.0}, {"id": 9, "before": 1, "after": 2.0}],
    }  # fmt: skip
    assert words.advice(foul) == ["3"]
    assert words.worst(foul, {}) == [("1.00 → 2.00", "9")]
    assert words.evidence(foul) == []
    assert words.newest([foul]) == [foul]
