#!/usr/bin/env bash
# Library:  Optuna 5.0.0
# Expected: a seeded sampler and an objective without chance give the same study again, with HyperbandPruner, too.
# Really:   HyperbandPruner puts trial n of a study into a bracket by a checksum of the study's name and n, and a study
#           without a name has a random one. So the same search, seeded as the documentation says, prunes other trials
#           at each start; only a `study_name` makes it repeat itself.
# Seen on 29 November 2026 (seed 0, 27 trials of 9 steps; trials that were pruned, in five studies):
#   without a name: 5 different sets; with study_name="same": 1 set
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
cd "$work"
venv/bin/pip install --quiet --no-compile --disable-pip-version-check optuna==5.0.0

cat > look.py <<'EOF'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 10):
        trial.report(x + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


def pruned(name):
    study = optuna.create_study(
        study_name=name,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3),
    )
    study.optimize(objective, n_trials=27)
    states = [trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials]
    values = [trial.params["x"] for trial in study.trials]
    return tuple(states), tuple(values)


unnamed, named = [pruned(None) for _ in range(5)], [pruned("same") for _ in range(5)]
assert len({values for _, values in unnamed + named}) == 1, "the trials themselves are the same"
sets = [len({states for states, _ in studies}) for studies in (unnamed, named)]
print(f"optuna {optuna.__version__}: without a name {sets[0]} different sets of pruned trials, with one {sets[1]}")
assert sets[0] > 1, "it repeats itself without a name"
assert sets[1] == 1
EOF
venv/bin/python look.py
