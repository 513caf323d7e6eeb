"""Certified networks as scikit-learn estimators.

    fit         minimise J = alpha E(x(T)) + beta Int E dt + lambda Int R(u) dt (+ lambda |q|^2)
    outputs     z = P x(T) of new inputs, (P, M)
    decision    z for one column; z_2 - z_1 for two classes under cross-entropy; z otherwise
    predict     the class on whose side the decision is, or whose output is largest; z in regression
    probability sigmoid(z) under the logistic loss, shared out to sum 1 for more than two classes;
                softmax(z) under cross-entropy

Parameters have the names of the command line, classes its encoding. Two defaults differ: inputs,
and the targets of a regression, are standardized, and the loss of a classifier is cross-entropy.
A fit whose optimum is not certified warns and keeps the best point. Scikit-learn comes with the
extra `data`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, log_softmax

from ocp import Certificate, Method, SolveOptions, Status
from problems.datasets import LOSSES as LOSS_NAMES
from problems.datasets import REGRESSION_LOSSES, Dataset, class_columns, shift_and_scale
from problems.learning import Array, LearningProblem
from problems.losses import LOSSES
from problems.regularizers import PENALTIES
from problems.solution_file import SCHEMES
from problems.tables import nearest
from problems.training import LearningSolution, train
from problems.vector_fields import ACTIVATIONS, FIELDS, Activation, VectorField

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import Tags, check_random_state
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        f"problems.estimators needs scikit-learn 1.6 or later ({error}); "
        'run: pip install "turnpike[data]".'
    ) from None

__all__ = ["TurnpikeClassifier", "TurnpikeRegressor"]

PROBABILISTIC = ("logistic", "cross-entropy")  # losses that are minus a log-likelihood
READOUTS = {"first": False, "trained": True}
METHODS = {method.value: method for method in Method}
WHOLE = ("width", "hidden", "layers", "substeps", "starts", "max_iterations")
REAL = ("horizon", "terminal", "tracking", "weight_decay", "bound", "tolerance", "time_limit")
MAY_BE_NONE = ("width", "hidden", "bound", "time_limit")
LARGEST_SEED = np.iinfo(np.int32).max  # of those that are drawn

T = TypeVar("T")


class _TurnpikeEstimator(BaseEstimator):
    """What classifier and regressor share.

    Args:
        field: inside, outside or bottleneck, or a `VectorField`.
        activation: tanh, relu, ..., as on the command line, or an `Activation`.
        width: D, the size of the state; by default the number of inputs, or that of outputs if
            that is larger.
        hidden: H of the bottleneck field, by default D; not used by others.
        horizon: T.
        layers: K.
        scheme: euler, midpoint, heun or rk4.
        substeps: steps of the scheme on every layer.
        readout: first, the first M coordinates of the state, or trained, an affine map.
        loss: squared, distance or l1; in classification also logistic, hinge or cross-entropy. By
            default squared, and cross-entropy in classification.
        terminal, tracking: alpha and beta.
        weight_decay: lambda.
        penalty: l2, l1 or h1.
        bound: on the size of every control; None for no bound.
        standardize: shift and scale the inputs, and in regression the targets, to mean 0 and
            deviation 1; constant ones are only shifted. Predictions are in the units of the
            targets, `objective_` and `solution_` belong to the standardized data.
        starts: random starts, of which the best certified optimum is kept.
        random_state: seed of the starts, a generator, or None for another one at every fit.
        method: auto, shooting, condensed, riccati or matrix-free.
        tolerance: of the certificate.
        max_iterations: of every start.
        time_limit: of all starts, s; None for none.

    Attributes:
        solution_: the `LearningSolution`, which `problems.solution_file` saves and
            `problems.figures` draws.
        certificate_: its certificate.
        objective_: J.
        n_iter_: iterations of the best start.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
        input_mean_, input_scale_: (d0,) what inputs are shifted and scaled by; 0 and 1 without
            `standardize`.

    All samples weigh the same: `fit` takes no sample weights. Sparse inputs are refused. Ctrl-C
    ends a fit, and the search that it is part of; the estimator then holds the best point so far.
    """

    solution_: LearningSolution
    certificate_: Certificate
    _default_loss = "squared"

    def __init__(
        self,
        *,
        field: str | VectorField = "inside",
        activation: str | Activation = "tanh",
        width: int | None = None,
        hidden: int | None = None,
        horizon: float = 1.0,
        layers: int = 20,
        scheme: str = "euler",
        substeps: int = 1,
        readout: str = "first",
        loss: str | None = None,
        terminal: float = 1.0,
        tracking: float = 0.0,
        weight_decay: float = 1e-2,
        penalty: str = "l2",
        bound: float | None = None,
        standardize: bool = True,
        starts: int = 1,
        random_state: int | np.random.RandomState | None = 0,
        method: str = "auto",
        tolerance: float = 1e-8,
        max_iterations: int = 3000,
        time_limit: float | None = None,
    ) -> None:
        self.field = field
        self.activation = activation
        self.width = width
        self.hidden = hidden
        self.horizon = horizon
        self.layers = layers
        self.scheme = scheme
        self.substeps = substeps
        self.readout = readout
        self.loss = loss
        self.terminal = terminal
        self.tracking = tracking
        self.weight_decay = weight_decay
        self.penalty = penalty
        self.bound = bound
        self.standardize = standardize
        self.starts = starts
        self.random_state = random_state
        self.method = method
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.time_limit = time_limit

    def _solve(self, inputs: Array, targets: Array, classes: tuple[tuple[str, ...], ...]) -> None:
        """Pose the problem on checked data, solve it, and keep what came out."""
        self._check_numbers()
        options = SolveOptions(
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            time_limit=np.inf if self.time_limit is None else self.time_limit,
            method=_named("method", self.method, METHODS),
        )
        self.input_mean_, self.input_scale_ = _shift_and_scale(inputs, "X", self.standardize)
        names = tuple(map(str, getattr(self, "feature_names_in_", ())))
        dataset = Dataset("the training data", self._scaled(inputs), targets, classes, names)
        problem = self._problem(dataset)
        solution = train(
            problem, seed=_seed(self.random_state), starts=self.starts, options=options
        )
        self.solution_ = solution
        self.certificate_ = solution.certificate
        self.objective_ = solution.solution.objective
        self.n_iter_ = solution.solution.iterations
        assert solution.starts is not None
        if not solution.starts.is_complete:  # what runs many fits must hear of it, too
            raise KeyboardInterrupt("interrupted; the best point found is kept in solution_.")
        if solution.status is not Status.SOLVED:
            warnings.warn(
                f"{type(self).__name__} ended without a certified optimum "
                f"({solution.status.value}). {solution.solution.message} "
                "The best point found is kept.",
                ConvergenceWarning,
                stacklevel=3,
            )

    @property
    def _loss(self) -> str:
        return self._default_loss if self.loss is None else self.loss

    def _problem(self, dataset: Dataset) -> LearningProblem:
        trained = _named("readout", self.readout, READOUTS)
        return LearningProblem(
            dataset,
            field=_named("field", self.field, FIELDS),
            activation=_named("activation", self.activation, ACTIVATIONS),
            width=self.width,
            hidden=self.hidden,
            horizon=self.horizon,
            layers=self.layers,
            scheme=_named("scheme", self.scheme, SCHEMES),
            substeps=self.substeps,
            loss=LOSSES[self._loss],
            terminal=self.terminal,
            tracking=self.tracking,
            weight_decay=self.weight_decay,
            penalty=_named("penalty", self.penalty, PENALTIES),
            bound=self.bound,
            trained_readout=trained,
        )

    def _check_numbers(self) -> None:
        """Kinds of numbers; the ranges are checked where the problem is posed."""
        for name in (*WHOLE, *REAL):
            value = getattr(self, name)
            kind, word = (Integral, "a whole number") if name in WHOLE else (Real, "a number")
            if value is None and name in MAY_BE_NONE:
                continue
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ValueError(f"{name} is {value!r}, expected {word}.")

    def _scaled(self, inputs: Array) -> Array:
        return (inputs - self.input_mean_) / self.input_scale_

    def _outputs(self, inputs: ArrayLike) -> Array:
        """Read-out (P, M) of new inputs, which are checked against those of the fit."""
        check_is_fitted(self)
        checked = validate_data(self, inputs, reset=False, dtype=np.float64)
        return self.solution_.outputs(self._scaled(checked))


class TurnpikeRegressor(RegressorMixin, _TurnpikeEstimator):  # type: ignore[misc,unused-ignore]
    """A network trained to a certified optimum, for one or several real targets.

    Attributes:
        target_mean_, target_scale_: (M,) what targets are shifted and scaled by; 0 and 1 without
            `standardize`.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on inputs (N, d0) and targets (N,) or (N, M).

        Raises:
            ValueError: data or parameters that cannot be used.
        """
        _named("loss", self._loss, {name: name for name in REGRESSION_LOSSES})
        inputs, targets = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True
        )
        self._is_column = targets.ndim == 1
        targets = targets.reshape(len(targets), -1).astype(np.float64)
        self.target_mean_, self.target_scale_ = _shift_and_scale(targets, "y", self.standardize)
        self._solve(inputs, (targets - self.target_mean_) / self.target_scale_, ())
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Outputs of inputs (P, d0), in the shape of the targets."""
        outputs = self._outputs(X) * self.target_scale_ + self.target_mean_
        return outputs[:, 0] if self._is_column else outputs

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class TurnpikeClassifier(ClassifierMixin, _TurnpikeEstimator):  # type: ignore[misc,unused-ignore]
    """A network trained to a certified optimum, for two or more classes.

    Attributes:
        classes_: the labels in sorted order.
    """

    classes_: NDArray[Any]
    _default_loss = "cross-entropy"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on inputs (N, d0) and labels (N,).

        Raises:
            ValueError: data or parameters that cannot be used; fewer than two classes.
        """
        _named("loss", self._loss, {name: name for name in LOSS_NAMES})
        inputs, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, index = np.unique(column_or_1d(labels, warn=True), return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise ValueError(
                f"y holds 1 class only, {self.classes_.tolist()[0]!r}, expected at least two; "
                "add samples of another class."
            )
        targets = class_columns(index, count, self._loss)
        names = tuple(map(str, self.classes_))
        is_column = targets.shape[1] == 1
        self._solve(inputs, targets, (names,) if is_column else tuple((name,) for name in names))
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Decisions of inputs (P, d0).

        For two classes (P,), positive for the second; otherwise one per class, (P, M).
        """
        outputs = self._outputs(X)
        if outputs.shape[1] == 1:
            return outputs[:, 0]
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels of inputs (P, d0)."""
        decisions = self.decision_function(X)
        is_binary = decisions.ndim == 1
        chosen = (decisions > 0).astype(int) if is_binary else decisions.argmax(axis=1)
        return self.classes_[chosen]

    @available_if(lambda self: self._loss in PROBABILISTIC)
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, (P, M); for the losses logistic and cross-entropy only."""
        decisions = self.decision_function(X)
        if decisions.ndim == 1:
            return np.column_stack([expit(-decisions), expit(decisions)])
        return np.exp(self._log_shares(decisions))

    @available_if(lambda self: self._loss in PROBABILISTIC)
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithms of the probabilities, exact where these vanish in rounding."""
        decisions = self.decision_function(X)
        if decisions.ndim == 1:
            return np.column_stack([log_expit(-decisions), log_expit(decisions)])
        return self._log_shares(decisions)

    def _log_shares(self, outputs: Array) -> Array:
        """Logarithms of the classes' probabilities, (P, M), for more than two of them."""
        scores = log_expit(outputs) if self._loss == "logistic" else outputs
        return np.asarray(log_softmax(scores, axis=1))


def _named(what: str, value: str | T, known: Mapping[str, T]) -> T:
    """The thing of that name; an object of the kind of those that have names is used as it is."""
    if isinstance(value, str) and value in known:
        return known[value]
    kind = type(next(iter(known.values())))
    if not isinstance(value, str) and kind not in (bool, Method) and isinstance(value, kind):
        return value
    hint = nearest(value, known) if isinstance(value, str) else ""
    raise ValueError(f"{what} is {value!r}; {hint}Expected one of {', '.join(known)}.")


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """The seed of the command line; a generator draws one.

    Raises:
        ValueError: no such thing, or a negative number.
    """
    generator = check_random_state(random_state)
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(generator.randint(LARGEST_SEED))


def _shift_and_scale(columns: Array, what: str, standardize: bool) -> tuple[Array, Array]:
    """What every column is shifted and scaled by; 0 and 1 if that is not asked for."""
    if not standardize:
        return np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    return shift_and_scale(columns, what)
