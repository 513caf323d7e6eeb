"""The scikit-learn estimators: scikit-learn's own checks, and what they promise beyond them."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ocp import SolveOptions, Status
from problems.datasets import LOSSES, RawData, class_columns, encode, load, standardize
from problems.estimators import TurnpikeClassifier, TurnpikeRegressor
from problems.learning import LearningProblem
from problems.losses import LOGISTIC
from problems.losses import LOSSES as LOSS_OBJECTS
from problems.solution_file import differences, load_solution, save_solution
from problems.training import train
from problems.vector_fields import INSIDE, SOFTPLUS, TANH, Activation

ROOT = Path(__file__).parents[1]
LAYERS = 2  # scikit-learn's checks make a hundred fits
RUN_ONE_CHECK = """
import pickle, sys
from sklearn.utils.estimator_checks import estimator_checks_generator
from problems.estimators import TurnpikeClassifier, TurnpikeRegressor
estimator = pickle.loads(bytes.fromhex(sys.argv[1]))
for one, check in estimator_checks_generator(estimator):
    if check.func.__name__ == sys.argv[2]:
        check(one)
        print("checked")
"""


@parametrize_with_checks(
    [
        TurnpikeClassifier(layers=LAYERS),
        TurnpikeRegressor(layers=LAYERS),
    ]
)
def test_scikit_learn_finds_nothing_to_complain_of(estimator, check):
    name = check.func.__name__
    if name != "check_array_api_input":
        check(estimator)
        return
    # SciPy reads this variable once, when it is imported, so this check has its own process.
    words = [sys.executable, "-c", RUN_ONE_CHECK, pickle.dumps(estimator).hex(), name]
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    run = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert run.stdout == "checked\n", run.stderr


def blobs(classes, features=2, samples=18, seed=0):
    """Clouds of points and their classes 0, 1, ..."""
    return make_blobs(samples, features, centers=classes, cluster_std=2.0, random_state=seed)


def small(**parameters):
    """A classifier that is fitted within a moment."""
    return TurnpikeClassifier(**{"layers": 2, "tolerance": 1e-6, **parameters})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_solves_the_problem_that_the_contract_encodes(loss, classes):
    inputs, index = blobs(classes)
    names = np.array(["anna", "bert", "carl"])
    found = small(loss=loss, standardize=False).fit(inputs, names[index]).solution_
    data = encode(RawData("blobs", inputs, (names[index],)), loss)
    assert np.array_equal(found.problem.dataset.targets, data.targets)
    assert found.problem.dataset.classes == data.classes
    width = max(2, data.targets.shape[1])
    problem = LearningProblem(data, layers=2, width=width, loss=LOSS_OBJECTS[loss])
    options = SolveOptions(tolerance=1e-6)
    assert found.solution.objective == pytest.approx(
        train(problem, options=options).solution.objective, rel=1e-6
    )


def test_a_regressor_solves_the_problem_of_the_command_line():
    data = encode(load("sine", samples=12), "squared")
    found = TurnpikeRegressor(standardize=False, layers=6, random_state=3, starts=2)
    found.fit(data.inputs, data.targets[:, 0])
    expected = train(LearningProblem(data, layers=6), seed=3, starts=2)
    assert found.objective_ == pytest.approx(expected.solution.objective, rel=1e-8)
    assert found.certificate_ is found.solution_.certificate
    assert found.n_iter_ == found.solution_.solution.iterations > 0
    assert found.solution_.status is Status.SOLVED


LABELS = {
    "text": st.text("abcäß 0-", min_size=1),
    "whole numbers": st.integers(-(2**62), 2**62),
    "small numbers": st.integers(0, 255).map(np.uint8),
    "whole floats": st.integers(-50, 50).map(float),
    "truth values": st.booleans(),
}


@settings(max_examples=8)
@pytest.mark.parametrize("kind", LABELS)
@given(data=st.data())
def test_labels_of_any_kind_come_back_as_they_went_in(kind, data):
    most = 2 if kind == "truth values" else 4
    names = data.draw(st.lists(LABELS[kind], min_size=2, max_size=most, unique=True))
    labels = np.array(sorted(names))
    inputs, index = blobs(len(labels))
    model = small().fit(inputs, labels[index])
    assert model.classes_.dtype == labels.dtype
    assert np.array_equal(model.classes_, labels)
    plain = small().fit(inputs, index)
    assert np.array_equal(model.predict(inputs), labels[plain.predict(inputs)])


def test_labels_may_be_objects():
    inputs, index = blobs(3)
    labels = np.array(["x", "y", "z"], dtype=object)[index]
    model = small().fit(inputs, labels)
    assert model.predict(inputs).dtype == object
    assert model.score(inputs, labels) > 0.8


@given(st.integers(2, 6), st.sampled_from(LOSSES), st.integers(0, 2**32 - 1))
def test_the_largest_column_or_its_sign_is_the_class_that_was_encoded(classes, loss, seed):
    index = np.random.default_rng(seed).permutation(np.arange(20) % classes)
    columns = class_columns(index, classes, loss)
    is_sign = columns.shape[1] == 1
    assert np.array_equal((columns[:, 0] > 0) if is_sign else columns.argmax(axis=1), index)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_that_the_loss_makes_likely(classes):
    inputs, index = blobs(classes)
    for loss in ("logistic", "cross-entropy"):
        model = small(loss=loss).fit(inputs, index)
        outputs = model.solution_.outputs((inputs - model.input_mean_) / model.input_scale_)
        chances = model.predict_proba(inputs)
        # E is minus the mean logarithm of the likelihood of the data.
        if loss == "cross-entropy":
            assert chances == pytest.approx(softmax(outputs, axis=1), abs=1e-14)
            likelihood = chances[np.arange(len(index)), index]
            error = -np.log(likelihood).mean()
            assert error == pytest.approx(model.solution_.errors[-1], rel=1e-12)
        else:
            odds = np.hstack([-outputs, outputs]) if classes == 2 else outputs
            shares = expit(odds) / expit(odds).sum(axis=1, keepdims=True)
            assert chances == pytest.approx(shares, abs=1e-14)
        assert model.predict_log_proba(inputs) == pytest.approx(np.log(chances), abs=1e-9)


def test_probabilities_far_from_the_data_are_still_shares_of_one():
    inputs, index = blobs(3)
    model = small(loss="logistic", activation="relu").fit(inputs, index)
    far = 1e6 * np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    assert model.predict_proba(far).sum(axis=1) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("loss", ["squared", "hinge"])
def test_there_are_no_probabilities_without_a_likelihood(loss):
    inputs, index = blobs(2)
    model = small(loss=loss).fit(inputs, index)
    assert not hasattr(model, "predict_proba")
    assert model.decision_function(inputs).shape == (len(inputs),)


def test_predictions_do_not_depend_on_the_units_of_inputs_and_targets():
    generator = np.random.default_rng(0)
    inputs, shift = generator.standard_normal((15, 2)), np.array([3.0, -5.0])
    targets = np.column_stack([np.sin(inputs[:, 0]), inputs[:, 0] * inputs[:, 1]])
    units, target_units = np.array([1e5, 1e-3]), np.array([100.0, 0.1])
    model = TurnpikeRegressor(layers=3).fit(inputs, targets)
    other = TurnpikeRegressor(layers=3).fit(inputs * units + shift, targets * target_units - 7)
    assert other.objective_ == pytest.approx(model.objective_, rel=1e-6)
    assert other.predict(inputs * units + shift) == pytest.approx(
        model.predict(inputs) * target_units - 7, rel=1e-4, abs=1e-4
    )


def test_more_outputs_than_inputs_widen_the_state_under_every_read_out():
    inputs = np.linspace(-1, 1, 9)[:, np.newaxis]
    targets = np.hstack([np.sin(inputs), np.cos(inputs), inputs**2])
    for readout in ("first", "trained"):
        model = TurnpikeRegressor(layers=3, readout=readout).fit(inputs, targets)
        assert model.solution_.problem.state_size == 3
        assert model.predict(inputs).shape == targets.shape


def test_constant_inputs_are_no_obstacle():
    inputs, index = blobs(2)
    constant = np.full((len(inputs), 1), 0.1)
    model = small().fit(np.hstack([inputs, constant]), index)
    assert model.input_scale_[2] == 1.0
    assert model.solution_.problem.dataset.inputs[:, 2] == pytest.approx(0.0, abs=1e-15)


def test_a_fit_that_is_not_solved_warns_and_keeps_its_best_point():
    inputs, index = blobs(2)
    model = small(max_iterations=1)
    with pytest.warns(ConvergenceWarning, match="TurnpikeClassifier.*iteration-limit.*limit was"):
        model.fit(inputs, index)
    assert model.solution_.status is Status.ITERATION_LIMIT
    assert np.isfinite(model.objective_)
    assert set(model.predict(inputs)) <= {0, 1}


def test_an_interrupt_is_passed_on_and_leaves_the_best_point():
    inputs, index = blobs(2)
    model = small(starts=10**6)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="the best point found is kept"):
        model.fit(inputs, index)
    timer.join()
    assert model.solution_.starts.minima
    assert model.score(inputs, index) > 0.8


def test_it_is_one_of_a_pipeline_that_is_searched_in_parallel_and_pickled():
    inputs, index = blobs(3, samples=30)
    pipeline = make_pipeline(StandardScaler(), small(readout="trained"))
    grid = {"turnpikeclassifier__weight_decay": [1.0, 1e-2]}
    with warnings.catch_warnings():  # joblib's of its own workers, which depend on the machine
        warnings.filterwarnings("ignore", module="joblib")
        search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(inputs, index)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_score(pipeline, inputs, index, cv=3).mean() > 0.7
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(again.predict_proba(inputs), search.predict_proba(inputs))
    assert (
        again[-1].certificate_.stationarity == search.best_estimator_[-1].certificate_.stationarity
    )


def test_fields_and_activations_may_be_ones_own():
    model = small(field=INSIDE, activation=replace(SOFTPLUS, name="mine"))
    assert clone(model).field is INSIDE
    inputs, index = blobs(2)
    own = model.fit(inputs, index)
    named = small(activation="softplus").fit(inputs, index)
    assert isinstance(own.activation, Activation)
    assert own.objective_ == pytest.approx(named.objective_, rel=1e-9)


def test_the_solution_can_be_saved_and_checked(tmp_path):
    inputs, index = blobs(3)
    frame = pd.DataFrame(inputs, columns=["height", "weight"])
    model = small(loss="logistic").fit(frame, index)
    save_solution(tmp_path / "blobs.npz", model.solution_)
    saved = load_solution(tmp_path / "blobs.npz")
    assert not differences(saved)
    assert saved.solution.problem.loss is LOGISTIC
    assert saved.solution.problem.dataset.input_names == ("height", "weight")


def test_columns_of_other_names_are_refused():
    inputs, index = blobs(2)
    model = small().fit(pd.DataFrame(inputs, columns=["height", "weight"]), index)
    assert list(model.feature_names_in_) == ["height", "weight"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(pd.DataFrame(inputs, columns=["weight", "height"]))


def test_a_seed_is_that_of_the_command_line_and_a_generator_gives_another_every_time():
    raw = load("moons", samples=10)
    problem = LearningProblem(
        standardize(encode(raw, "squared")).dataset, activation=TANH, layers=3
    )
    model = TurnpikeClassifier(loss="squared", layers=3, random_state=5).fit(
        raw.inputs, raw.targets[0]
    )
    expected = train(problem, seed=5)
    assert np.array_equal(model.solution_.states, expected.states)
    generator = np.random.RandomState(0)
    first, second = (small(max_iterations=2, random_state=generator) for _ in range(2))
    with pytest.warns(ConvergenceWarning):
        first.fit(raw.inputs, raw.targets[0])
    with pytest.warns(ConvergenceWarning):
        second.fit(raw.inputs, raw.targets[0])
    assert first.objective_ != second.objective_


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"loss": "crossentropy"}, r"loss is 'crossentropy'; did you mean 'cross-entropy'\?"),
        ({"activation": "tahn"}, r"activation is 'tahn'; did you mean 'tanh'\?"),
        ({"field": 3}, "field is 3; Expected one of inside, outside, bottleneck"),
        ({"readout": True}, "readout is True; Expected one of first, trained"),
        ({"method": "newton"}, "method is 'newton'; Expected one of auto"),
        ({"layers": 2.5}, "layers is 2.5, expected a whole number"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"starts": 0}, "starts must be at least 1, got 0"),
        ({"horizon": "1"}, "horizon is '1', expected a number"),
        ({"horizon": -1}, "horizon must be positive, got -1"),
        ({"tolerance": None}, "tolerance is None, expected a number"),
        ({"time_limit": 0}, "the time limit must be positive"),
        ({"width": 1}, "the width must be at least the number of inputs, 2, got 1"),
        ({"random_state": "zero"}, "'zero' cannot be used to seed"),
    ],
)
def test_wrong_parameters_are_named_when_it_is_fitted(parameters, words):
    inputs, index = blobs(3)
    with pytest.raises(ValueError, match=words):
        TurnpikeClassifier(**parameters).fit(inputs, index)


def test_a_regressor_has_no_loss_of_classes():
    with pytest.raises(ValueError, match="loss is 'hinge'; Expected one of squared, distance, l1"):
        TurnpikeRegressor(loss="hinge").fit([[0.0], [1.0]], [0.0, 1.0])


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="y holds 1 class only, 'a', expected at least two"):
        small().fit([[0.0], [1.0]], ["a", "a"])


def run_python(code):
    """Output and error of a new interpreter."""
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)


def test_without_scikit_learn_one_line_names_the_extra():
    run = run_python("import sys; sys.modules['sklearn'] = None; import problems.estimators")
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: problems.estimators needs scikit-learn 1.6 or later")
    assert last.endswith('run: pip install "turnpike[data]".')
    assert "During handling" not in run.stderr


def test_neither_the_solver_nor_the_command_line_imports_scikit_learn():
    run = run_python("import sys, ocp, problems.cli; print('sklearn' in sys.modules)")
    assert run.stdout == "False\n", run.stderr
