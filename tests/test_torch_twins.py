"""Twins under what PyTorch does to modules: functional calls, parametrizations and pruning.

What acts in the network is what outputs, cost and decisions are of, whichever way it is computed.
"""

from dataclasses import replace

import numpy as np
import pytest

from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.moving_grid import moving_grid
from problems.spatial_grid import RULES
from problems.vector_fields import BOTTLENECK, FIELDS, INSIDE

torch = pytest.importorskip("torch")
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

from problems.torch_costs import cost_of, tensors  # noqa: E402
from problems.torch_models import Network, architecture_of, to_solution  # noqa: E402

EQUAL = 1e-12


def problem_of(field=INSIDE, **options):
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((5, 3)), rng.standard_normal((5, 2)))
    settings = {"layers": 3, "horizon": 2.0, "trained_readout": True, "tracking": 0.5} | options
    return LearningProblem(data, field=field, **settings)


PROBLEMS = {
    **{name: problem_of(field) for name, field in FIELDS.items()},
    "fixed": problem_of(trained_readout=False),
    "widths": problem_of(moving_grid=moving_grid((3, 5, 4, 3), 3)),
    "grid": problem_of(
        BOTTLENECK, hidden=2, moving_grid=moving_grid((3, 4), 3, RULES["trapezoid"])
    ),
}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]


def network_of(problem, seed=1):
    return Network(architecture_of(problem), seed=seed)


def outputs_of(problem, decisions):
    states = problem.run(problem.dataset.inputs, decisions).states[-1]
    weight, bias = problem.readout(decisions[problem.staged.parameter_slice])
    return states @ weight.T + bias


class Cost(torch.nn.Module):
    """J as a module, so that a functional call reaches it."""

    def __init__(self, problem):
        super().__init__()
        self.network, self.cost = network_of(problem), cost_of(problem)

    def forward(self, inputs, targets):
        return self.cost(self.network, inputs, targets)


def test_a_functional_call_is_the_network_of_the_parameters_that_it_is_given(problem):
    first, second = network_of(problem, 1), network_of(problem, 2)
    before = first.decisions()
    inputs, _ = tensors(problem)
    found = torch.func.functional_call(first, dict(second.named_parameters()), (inputs,))
    expected = outputs_of(problem, second.decisions())
    assert np.abs(found.detach().numpy() - expected).max() <= EQUAL
    assert (first.decisions() == before).all()


def test_functional_derivatives_of_the_cost_are_those_of_backward(problem):
    module, data = Cost(problem), tensors(problem)
    state = {name: p.detach() for name, p in module.named_parameters()}

    def cost(parameters):
        return torch.func.functional_call(module, parameters, data)

    slopes = torch.func.grad(cost)(state)
    module(*data).backward()
    for name, parameter in module.named_parameters():
        assert torch.allclose(slopes[name], parameter.grad, rtol=EQUAL, atol=EQUAL)
    rows = torch.func.jacrev(cost)(state)
    assert all(torch.allclose(rows[n], slopes[n], rtol=EQUAL, atol=EQUAL) for n in slopes)


def test_an_ensemble_under_vmap_is_every_network_by_itself(problem):
    networks = [network_of(problem, seed) for seed in range(3)]
    stacked, buffers = torch.func.stack_module_state(networks)
    inputs, _ = tensors(problem)

    def call(parameters, kept):
        return torch.func.functional_call(networks[0], (parameters, kept), (inputs,))

    found = torch.vmap(call)(stacked, buffers)
    for outputs, network in zip(found, networks, strict=True):
        expected = outputs_of(problem, network.decisions())
        assert np.abs(outputs.detach().numpy() - expected).max() <= EQUAL


class Scaled(torch.nn.Module):
    """W = 2 V, which has an inverse."""

    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


class Exponential(torch.nn.Module):
    """W = exp(V), which has none for what is not positive."""

    def forward(self, x):
        return x.exp()


def parametrized(network, make):
    for name in [n for n, _ in network.named_parameters()]:
        parametrize.register_parametrization(network, name, make())
    return network


@pytest.mark.parametrize("make", [Scaled, Exponential])
def test_a_parametrized_twin_is_the_network_of_its_values(problem, make):
    network = parametrized(network_of(problem), make)
    decisions, (inputs, targets) = network.decisions(), tensors(problem)
    assert np.abs(network(inputs).detach().numpy() - outputs_of(problem, decisions)).max() <= EQUAL
    plain = network_of(problem)
    plain.set_decisions(decisions)
    cost = cost_of(problem)
    found, expected = cost(network, inputs, targets), cost(plain, inputs, targets)
    assert found.item() == pytest.approx(expected.item(), rel=EQUAL)
    found.backward()
    expected.backward()
    for name, parameter in plain.named_parameters():  # the chain rule
        value = getattr(network, name).detach()
        own = getattr(network.parametrizations, name).original.grad
        slope = 2.0 if make is Scaled else value
        assert torch.allclose(own, slope * parameter.grad, rtol=EQUAL, atol=EQUAL)
    with pytest.raises(ValueError, match="computed by a parametrization"):
        network.gradient()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (parametrizations.orthogonal, "w"),
        (parametrizations.orthogonal, "readout_weight"),
        (parametrizations.weight_norm, "w"),
        (parametrizations.spectral_norm, "readout_weight"),
        (parametrizations.spectral_norm, "w"),
    ],
)
def test_the_parametrizations_of_pytorch_act_in_the_twin(change, name):
    problem = PROBLEMS["inside"]
    network = network_of(problem)
    change(network, name)
    inputs, targets = tensors(problem)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        cost_of(problem)(network, inputs, targets).backward()
        optimizer.step()
    decisions = network.decisions()
    assert (network.decisions() == decisions).all()  # reading does not move a spectral norm
    assert network.training
    outputs = network.eval()(inputs).detach().numpy()
    assert np.abs(outputs - outputs_of(problem, decisions)).max() <= EQUAL
    found = to_solution(network, problem).trajectory.decisions
    assert (found == decisions).all()
    if change is parametrizations.orthogonal:
        matrix = getattr(network, name).detach()
        eye = torch.eye(matrix.shape[-2]).double()
        assert torch.allclose(matrix @ matrix.mT, eye.expand_as(matrix @ matrix.mT))


def test_decisions_are_set_through_the_inverse_of_a_parametrization(problem):
    network = parametrized(network_of(problem), Scaled)
    wanted = network_of(problem, 5).decisions()
    network.set_decisions(wanted)
    assert (network.decisions() == wanted).all()
    normed = network_of(problem)
    for name in [n for n, _ in normed.named_parameters()]:
        if normed.get_parameter(name).ndim > 1:
            parametrizations.weight_norm(normed, name)
    normed.set_decisions(wanted)
    assert np.abs(normed.decisions() - wanted).max() <= EQUAL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: parametrize.register_parametrization(n, "w", Exponential()), "no inverse"),
        (lambda n: parametrizations.orthogonal(n, "w"), "differ by"),
        (lambda n: parametrizations.spectral_norm(n, "w"), "differ by"),
        (lambda n: prune.random_unstructured(n, "w", amount=0.5), "pruning mask .* differ by"),
    ],
)
def test_decisions_that_the_twin_cannot_have_are_refused_and_change_nothing(change, words):
    problem = PROBLEMS["inside"]
    network = network_of(problem)
    change(network)
    before = network.decisions()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        network.set_decisions(network_of(problem, 7).decisions())
    assert (network.decisions() == before).all()
    assert all((network.state_dict()[name] == value).all() for name, value in state.items())


def pruned(problem, seed=1):
    network = network_of(problem, seed)
    torch.manual_seed(0)
    for name in [n for n, _ in network.named_parameters()]:
        prune.random_unstructured(network, name, amount=0.4)
    return network


def test_a_pruned_twin_is_the_network_that_the_masks_leave(problem):
    network, (inputs, targets) = pruned(problem), tensors(problem)
    cost = cost_of(problem)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):  # by the cost alone, which does not call the module
        optimizer.zero_grad()
        cost(network, inputs, targets).backward()
        optimizer.step()
    decisions, slope = network.decisions(), network.gradient()
    is_kept = decisions != 0
    assert 0 < is_kept.sum() < is_kept.size
    assert (slope[~is_kept] == 0).all()
    outputs = network(inputs).detach().numpy()
    assert np.abs(outputs - outputs_of(problem, decisions)).max() <= EQUAL
    plain = network_of(problem)
    plain.set_decisions(decisions)
    expected = cost(plain, inputs, targets)
    assert cost(network, inputs, targets).item() == pytest.approx(expected.item(), rel=EQUAL)
    optimizer.zero_grad()
    cost(network, inputs, targets).backward()
    expected.backward()
    found, full = network.gradient(), plain.gradient()
    assert np.abs(found - np.where(is_kept, full, 0.0)).max() <= EQUAL * np.abs(full).max()
    for name in [n.removesuffix("_orig") for n, _ in network.named_parameters()]:
        prune.remove(network, name)
    assert (network.decisions() == decisions).all()


def test_decisions_that_respect_the_masks_are_set_in_a_pruned_twin(problem):
    network, mask = pruned(problem, 1), pruned(problem, 1).decisions() != 0
    wanted = np.where(mask, network_of(problem, 9).decisions(), 0.0)
    network.set_decisions(wanted)
    assert (network.decisions() == wanted).all()
    inputs, _ = tensors(problem)
    outputs = network(inputs).detach().numpy()
    assert np.abs(outputs - outputs_of(problem, wanted)).max() <= EQUAL


def test_a_functional_call_reaches_the_parameters_behind_masks_and_parametrizations(problem):
    inputs, _ = tensors(problem)
    for change in (pruned, lambda p, seed=1: parametrized(network_of(p, seed), Scaled)):
        first, second = change(problem, 1), change(problem, 2)
        with torch.no_grad():
            expected = second(inputs)
        state = {**dict(second.named_parameters()), **dict(second.named_buffers())}
        found = torch.func.functional_call(first, state, (inputs,))
        assert torch.allclose(found, expected, rtol=EQUAL, atol=EQUAL)


def test_a_twin_in_single_precision_sets_and_reads_decisions_of_its_own():
    problem = replace(PROBLEMS["outside"], layers=2)
    network = Network(architecture_of(problem), dtype=torch.float32)
    prune.l1_unstructured(network, "w", amount=0.3)
    decisions = network.decisions()
    network.set_decisions(decisions)
    assert (network.decisions() == decisions).all()
    assert decisions.dtype == np.float64
