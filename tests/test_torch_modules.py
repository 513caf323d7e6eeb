"""Modules of PyTorch as models: what they compute, and the one line where that is another network.

The amounts in that line are compared with forwards written here in NumPy.
"""

import re

import numpy as np
import pytest

from problems.appraisal import appraise
from problems.appraisal_report import appraisal_report, appraisal_table
from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.model_arrays import decisions_of_model, read_model
from problems.training import train
from problems.vector_fields import BOTTLENECK, INSIDE, RELU

torch = pytest.importorskip("torch")
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

from problems.torch_models import Network, architecture_of  # noqa: E402

D, K, M, T = 3, 4, 2, 2.0
H = T / K
EXACT = 1e-12


def problem_of(field=INSIDE, hidden=None, **options):
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((5, D)), rng.standard_normal((5, M)))
    settings = {"layers": K, "horizon": T, "trained_readout": True} | options
    return LearningProblem(data, field=field, hidden=hidden, **settings)


class Residual(torch.nn.Module):
    """x + h w s(x) + b, then an affine output layer; h and s as asked."""

    def __init__(self, step=H, activation=torch.tanh, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(D, D) for _ in range(K))
        self.head = torch.nn.Linear(D, M)
        self.step, self.activation = step, activation

    def flow(self, x):
        for layer in self.layers:
            x = x + self.step * layer(self.activation(x))
        return x

    def forward(self, x):
        return self.head(self.flow(x))


class Blocks(torch.nn.Module):
    """Two lists of linear modules in a bottleneck, used in the order of definition or not."""

    def __init__(self, first="up", second="down"):
        super().__init__()
        torch.manual_seed(1)
        self.up = torch.nn.ModuleList(torch.nn.Linear(D, D) for _ in range(K))
        self.down = torch.nn.ModuleList(torch.nn.Linear(D, D) for _ in range(K))
        self.readout = torch.nn.Linear(D, M)
        self.order = first, second

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.order)
        for inner, outer in zip(first, second, strict=True):
            x = x + H * outer(torch.tanh(inner(x)))
        return self.readout(x)


def outputs_of(problem, decisions):
    states = problem.propagate(problem.dataset.inputs, decisions)[-1]
    weight, bias = problem.readout(decisions[problem.staged.parameter_slice])
    return states @ weight.T + bias


def forward_of(module, problem):
    """Its own outputs in float64, by a copy that has all its numbers."""
    with torch.no_grad():
        return module(torch.tensor(problem.dataset.inputs)).numpy()


@pytest.mark.parametrize(
    ("make", "field"),
    [(Residual, INSIDE), (Blocks, BOTTLENECK), (lambda: Residual().bfloat16(), INSIDE)],
)
def test_a_module_that_is_the_network_is_read_exactly_and_without_a_word(make, field):
    problem, module = problem_of(field), make()
    reading = read_model(module, problem)
    assert (reading.own_forward, reading.note) == ("same", None)
    expected = forward_of(module.double(), problem)
    assert np.abs(outputs_of(problem, reading.decisions) - expected).max() <= EXACT


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Residual(step=1.0), INSIDE),
        (lambda: Residual(activation=torch.relu), INSIDE),
        (lambda: Residual(activation=torch.sin), INSIDE),
        (lambda: Blocks("down", "up"), BOTTLENECK),
        (lambda: torch.nn.Sequential(*(torch.nn.Linear(D, D) for _ in range(K))), INSIDE),
    ],
)
def test_another_forward_is_one_line_with_how_much_and_where(make, field):
    module = make()
    problem = problem_of(field, trained_readout=not isinstance(module, torch.nn.Sequential))
    with pytest.warns(UserWarning, match="own forward differs from the network") as caught:
        decisions = decisions_of_model(module, problem)
    own = forward_of(module.double(), problem)
    network = outputs_of(problem, decisions)
    if own.shape != network.shape:  # a module without output layer gives its states
        network = problem.propagate(problem.dataset.inputs, decisions)[-1]
    line = str(caught[0].message)
    found = re.search(
        r"by (\S+) in (output|coordinate) (\d) of sample (\d): (\S+) there, (\S+) h", line
    )
    apart, place = np.abs(own - network), (int(found[4]), int(found[3]))
    assert float(found[1]) == pytest.approx(apart.max(), rel=1e-2)
    assert apart[place] == apart.max()
    assert float(found[5]) == pytest.approx(own[place], rel=1e-5)
    assert float(found[6]) == pytest.approx(network[place], rel=1e-5)
    assert "h = 0.5" in line
    assert f"{problem.field.name} field and tanh" in line
    assert "\n" not in line


def test_the_line_is_in_the_report_of_an_appraisal():
    problem = problem_of(weight_decay=0.5)
    optimum = train(problem)
    with pytest.warns(UserWarning, match="own forward differs"):
        found = appraise(problem, Residual(step=1.0), optimum)
    result = appraisal_report(found)
    assert result["own_forward"]["verdict"] == "different"
    assert result["own_forward"]["note"] in appraisal_table(result)
    assert result["read_from"]["readout_weight"] == "head.weight"
    same = appraisal_report(appraise(problem, Residual(), optimum))
    assert same["own_forward"] == {"verdict": "same", "note": None}
    assert result["objective"] == same["objective"]  # of the network assumed


class Squeezed(Residual):
    def forward(self, x):
        return super().forward(x)[:, 0]


class Pairs(Residual):
    def forward(self, x):
        return super().forward(x), x


class Sequence(Residual):
    def forward(self, x):
        if x.ndim != 3:
            raise ValueError("expected a batch of\nsequences")
        return x


class Endless(Residual):
    def forward(self, x):
        return super().forward(x) / 0


class States(Residual):
    def forward(self, x):
        return self.flow(x)


@pytest.mark.parametrize(
    ("make", "verdict", "words"),
    [
        (Squeezed, "different", r"outputs of shape \(5,\), expected \(5, 2\)"),
        (Pairs, "not compared", r"does not run .*gives a tuple, expected a tensor"),
        (
            Sequence,
            "not compared",
            r"inputs of shape \(5, 3\) \(ValueError: expected a batch of seq",
        ),
        (Endless, "different", r"differs from the network.* by (nan|inf)"),
    ],
)
def test_a_forward_that_cannot_be_compared_is_one_line_too(make, verdict, words):
    reading = read_model(make(), problem_of())
    assert reading.own_forward == verdict
    assert re.search(words, reading.note)
    assert "\n" not in reading.note


def test_states_and_one_output_without_an_axis_are_compared_as_what_they_are():
    assert read_model(States(), problem_of()).own_forward == "same"
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((5, D)), rng.standard_normal((5, 1)))
    problem = LearningProblem(data, layers=K, horizon=T, trained_readout=True)

    class Flat(Residual):
        def forward(self, x):
            return super().forward(x)[:, 0]

    module = Flat()
    module.head = torch.nn.Linear(D, 1)
    assert read_model(module, problem).own_forward == "same"


def test_a_module_without_forward_has_nothing_to_compare():
    layers = Residual().layers
    problem = problem_of(trained_readout=False)
    reading = read_model(layers, problem)
    assert (reading.own_forward, reading.note) == ("not compared", None)
    assert reading.sources["w"] == "k.weight"


def test_wrappers_are_the_module_that_they_wrap():
    problem, module = problem_of(), Residual()
    expected = decisions_of_model(module, problem)
    averaged = torch.optim.swa_utils.AveragedModel(module)
    averaged.update_parameters(module)
    wrapped = [
        torch.compile(module, backend="eager"),
        torch.nn.DataParallel(module),
        averaged,
    ]
    for wrapper in wrapped:
        reading = read_model(wrapper, problem)
        assert (reading.decisions == expected).all()
        assert reading.own_forward == "same"


def test_reading_a_module_changes_nothing_in_it():
    class Dropping(Residual):
        def forward(self, x):
            return self.head(torch.nn.functional.dropout(self.flow(x), training=self.training))

    problem, module = problem_of(), Dropping()
    prune.random_unstructured(module.layers[0], "weight", amount=0.5)
    module.layers[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    product, state = module.layers[0].weight, torch.random.get_rng_state()
    assert read_model(module, problem).own_forward == "same"  # in evaluation mode
    assert module.layers[0].weight is product
    assert [part.training for part in module.layers] == [True, False, True, True]
    assert module.training
    assert (torch.random.get_rng_state() == state).all()
    assert all((module.state_dict()[name] == value).all() for name, value in before.items())


# Weights that are computed from others


def orthogonal(layer):
    parametrizations.orthogonal(layer)


def weight_norm(layer):
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(3.0)


def spectral_norm(layer):
    parametrizations.spectral_norm(layer)


class Symmetric(torch.nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T


def symmetric(layer):
    parametrize.register_parametrization(layer, "weight", Symmetric())


def pruned(layer):
    prune.l1_unstructured(layer, "weight", amount=0.4)


def pruned_twice(layer):
    prune.l1_unstructured(layer, "weight", amount=0.3)
    prune.random_structured(layer, "weight", amount=1, dim=0)
    prune.random_unstructured(layer, "bias", amount=0.5)


@pytest.mark.parametrize(
    "change", [orthogonal, weight_norm, spectral_norm, symmetric, pruned, pruned_twice]
)
def test_a_weight_that_is_computed_is_read_as_it_acts(change):
    problem, module = problem_of(), Residual().double()
    for layer in module.layers:
        change(layer)
    with torch.no_grad():  # after which a pruned weight is stale until the next forward
        for parameter in module.parameters():
            parameter.mul_(1.5)
    reading = read_model(module, problem)
    assert reading.own_forward == "same"
    own = forward_of(module.eval(), problem)
    assert np.abs(outputs_of(problem, reading.decisions) - own).max() <= EXACT


def test_the_twin_of_another_network_is_told_apart_by_its_forward():
    problem = problem_of()
    twin = Network(architecture_of(problem), seed=3)
    assert read_model(twin, problem).own_forward == "same"
    for other in (problem_of(horizon=3.0), problem_of(field=INSIDE, activation=RELU)):
        reading = read_model(Network(architecture_of(other), seed=3), problem)
        assert reading.own_forward == "different"
        assert "own forward differs" in reading.note
