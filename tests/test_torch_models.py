"""PyTorch twins: the numbers of the stages, parameters in and out, and life without PyTorch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ocp import EULER, HEUN, MIDPOINT, RK4, rollout
from ocp.condensing import adjoint, linearize, reduced_gradient
from problems.datasets import Dataset
from problems.interpolation import minimal_norm
from problems.learning import LearningProblem
from problems.losses import CROSS_ENTROPY, HINGE, LOGISTIC, LOSSES
from problems.moving_grid import moving_grid
from problems.regularizers import H1, L1_PENALTY, L2, PENALTIES
from problems.solution_file import save_solution
from problems.spatial_grid import RULES
from problems.training import train
from problems.vector_fields import ACTIVATIONS, BOTTLENECK, FIELDS, TANH

torch = pytest.importorskip("torch")

from problems.torch_costs import cost_of, tensors  # noqa: E402
from problems.torch_export import export  # noqa: E402
from problems.torch_models import (  # noqa: E402
    Network,
    architecture_of,
    from_solution,
    to_solution,
)

EQUAL = 1e-12  # relative, of what is the same formula in the same arithmetic
CONFIGURATIONS = 200
SCHEMES = (EULER, MIDPOINT, HEUN, RK4)


def generated(seed):
    """A small learning problem with every choice drawn, and decisions."""
    rng = np.random.default_rng(seed)

    def draw(choices):
        return list(choices)[rng.integers(len(list(choices)))]

    loss, field = draw(LOSSES.values()), draw(FIELDS.values())
    samples, inputs, outputs = (int(n) for n in rng.integers((2, 1, 1), (6, 4, 4)))
    targets = rng.standard_normal((samples, outputs))
    if loss in (LOGISTIC, HINGE):
        targets = np.sign(targets)
    if loss is CROSS_ENTROPY:
        targets = np.eye(outputs)[rng.integers(outputs, size=samples)]
    layers = int(rng.integers(1, 6))
    grids = {} if rng.integers(3) else generated_grids(rng, inputs, outputs, layers)
    problem = LearningProblem(
        Dataset("generated", rng.standard_normal((samples, inputs)), targets),
        field=field,
        activation=draw(ACTIVATIONS.values()),
        width=None if "moving_grid" in grids else max(inputs, outputs) + int(rng.integers(3)),
        hidden=int(rng.integers(1, 4)) if field is BOTTLENECK else None,
        horizon=float(rng.uniform(0.3, 3)),
        layers=layers,
        scheme=EULER if "moving_grid" in grids else draw(SCHEMES),
        substeps=1 if "moving_grid" in grids else int(rng.integers(1, 4)),
        loss=loss,
        terminal=float(rng.uniform(0.1, 2)),
        tracking=float(rng.choice([0.0, 0.7])),
        weight_decay=float(rng.choice([0.0, 0.03, 1.0])),
        penalty=draw([L2, L1_PENALTY] if "moving_grid" in grids else PENALTIES.values()),
        trained_readout="fixed_readout" not in grids and bool(rng.integers(2)),
        readout_decay=draw([None, 0.0, 0.2]),
        **grids,
    )
    return problem, rng.standard_normal(problem.staged.decision_size)


def generated_grids(rng, inputs, outputs, layers):
    """Widths that change along depth: features without a grid, or functions with a quadrature."""
    widths = [int(n) for n in rng.integers(max(inputs, outputs), 6, layers + 1)]
    if rng.integers(2):
        widths[0] = max(widths[0], inputs)
        return {"moving_grid": moving_grid(widths, layers)}
    widths[0] = inputs
    rule = RULES["midpoint" if inputs == 1 else "trapezoid"]
    grid = moving_grid(widths, layers, rule)
    if rng.integers(2):
        return {"moving_grid": grid}
    return {"moving_grid": grid, "fixed_readout": rng.standard_normal((outputs, widths[-1]))}


def plain():
    """A generated problem of one width without a grid."""
    problems = (generated(seed)[0] for seed in range(CONFIGURATIONS))
    return next(p for p in problems if p.moving_grid is None and p.layers > 1)


def cost_and_gradient(problem, decisions):
    """By the stages; away from a kink its soft rows have the multiplier of the side they are on."""
    linearization = linearize(problem.staged, rollout(problem.staged, decisions))
    multipliers = tuple(
        np.where(values.violation == 0, 0.0, np.sign(values.violation) * values.bounds.weight)
        for values in (*linearization.stages, *linearization.shared)
    )
    costates = adjoint(linearization, multipliers)
    return linearization.objective, reduced_gradient(linearization, costates, multipliers)


@pytest.mark.parametrize("first", range(0, CONFIGURATIONS, 20))
def test_cost_and_gradient_are_those_of_the_stages(first):
    for seed in range(first, first + 20):
        problem, decisions = generated(seed)
        network = Network(architecture_of(problem))
        network.set_decisions(decisions)
        cost = cost_of(problem)(network, *tensors(problem))
        cost.backward()
        found = network.gradient()
        expected, gradient = cost_and_gradient(problem, decisions)
        assert cost.item() == pytest.approx(expected, rel=EQUAL, abs=EQUAL), seed
        size = np.maximum(gradient.terms, 1.0)
        assert (np.abs(found - gradient.value) <= EQUAL * size).all(), seed


def test_every_choice_is_among_the_generated_configurations():
    problems = [generated(seed)[0] for seed in range(CONFIGURATIONS)]
    pairs = {(p.field.name, p.activation.name) for p in problems}
    assert len(pairs) == len(FIELDS) * len(ACTIVATIONS)
    assert {(p.loss.name, p.tracking > 0) for p in problems} == {
        (name, tracked) for name in LOSSES for tracked in (False, True)
    }
    assert {(p.scheme.name, p.substeps) for p in problems} == {
        (scheme.name, substeps) for scheme in SCHEMES for substeps in (1, 2, 3)
    }
    moving = [p for p in problems if p.moving_grid is not None]
    assert {p.field.name for p in moving if not p.has_one_width} == set(FIELDS)
    assert {p.moving_grid.grid(0).is_index for p in moving} == {False, True}
    assert {p.fixed_readout is None for p in moving} == {False, True}
    assert {(p.penalty.name, p.trained_readout) for p in problems} == {
        (name, trained) for name in PENALTIES for trained in (False, True)
    }


@pytest.fixture(scope="module")
def solution():
    return train(replace(plain(), loss=LOSSES["squared"], activation=TANH, trained_readout=True))


def test_outputs_and_states_of_new_points_are_those_of_the_solution(solution):
    points = np.random.default_rng(0).standard_normal((7, solution.problem.dataset.inputs.shape[1]))
    network = from_solution(solution)
    found = network(torch.tensor(points)).detach().numpy()
    assert np.abs(found - solution.outputs(points)).max() <= EQUAL
    states = network.trajectory(torch.tensor(points)).detach().numpy()
    assert np.abs(states - solution.propagate(points)).max() <= EQUAL


def test_a_solution_survives_the_way_through_pytorch(solution):
    again = to_solution(from_solution(solution), solution.problem)
    assert again.status is solution.status
    assert (again.trajectory.decisions == solution.trajectory.decisions).all()
    assert again.solution.objective == solution.solution.objective


def test_a_state_dict_has_the_arrays_of_a_solution_file(solution, tmp_path):
    network = from_solution(solution)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(state) == {*solution.weights, "readout_weight", "readout_bias"}
    for name, array in solution.weights.items():
        assert (state[name].numpy() == array).all()
    other = Network(network.architecture, seed=1)
    other.load_state_dict(state)
    assert (other.decisions() == network.decisions()).all()


def test_where_widths_vary_a_state_dict_has_one_array_per_layer(tmp_path):
    data = Dataset("points", np.array([[0.5, -1.0], [1.0, 0.3]]), np.array([[1.0], [-1.0]]))
    problem = LearningProblem(data, layers=3, moving_grid=moving_grid((2, 4, 3, 3), 3))
    solved = train(problem)
    save_solution(tmp_path / "solution.npz", solved)
    network = from_solution(solved)
    state = network.state_dict()
    with np.load(tmp_path / "solution.npz") as file:
        for name in state:
            assert (state[name].numpy() == file[name]).all()
    assert {f"{name}_{k}" for name in "wb" for k in range(3)} < set(state)
    again = to_solution(network, problem)
    assert again.solution.objective == solved.solution.objective
    export(solved, tmp_path / "model.pt2")
    moved = torch.export.load(tmp_path / "model.pt2").module()(torch.tensor(data.inputs))
    assert (
        np.abs(moved.detach().numpy() - network(torch.tensor(data.inputs)).detach().numpy()).max()
        <= EQUAL
    )


def test_single_precision_is_near(solution):
    inputs, targets = tensors(solution.problem, torch.float32)
    network = from_solution(solution, dtype=torch.float32)
    cost = cost_of(solution.problem)(network, inputs, targets)
    assert cost.dtype is torch.float32
    assert cost.item() == pytest.approx(solution.solution.objective, rel=1e-5)  # 24 bits


def test_a_fixed_readout_has_no_parameters():
    problem = replace(plain(), trained_readout=False)
    network = Network(architecture_of(problem))
    assert {name for name, _ in network.named_parameters()} == set(network.controls)
    assert len(network.decisions()) == problem.staged.decision_size


def test_the_initial_function_of_a_homogeneous_field_does_not_depend_on_the_horizon():
    problem = replace(plain(), field=FIELDS["inside"], loss=LOSSES["squared"])
    inputs, _ = tensors(problem)
    outputs = [
        Network(architecture_of(replace(problem, horizon=t)), seed=4)(inputs) for t in (1.0, 100.0)
    ]
    assert torch.allclose(*outputs, rtol=1e-12, atol=1e-12)
    other = Network(architecture_of(problem), seed=5)
    assert not torch.allclose(other(inputs), outputs[0])


def test_an_export_runs_without_this_package(solution, tmp_path):
    path = tmp_path / "model.pt2"
    export(solution, path)
    points = np.random.default_rng(1).standard_normal((5, solution.problem.dataset.inputs.shape[1]))
    np.save(tmp_path / "points.npy", points)
    code = (
        "import sys, numpy as np, torch\n"
        "program = torch.export.load('model.pt2').module()\n"
        "points = torch.tensor(np.load('points.npy'))\n"
        "np.save('outputs.npy', program(points).detach().numpy())\n"
        "sys.exit('problems' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    outputs = np.load(tmp_path / "outputs.npy")
    assert np.abs(outputs - solution.outputs(points)).max() <= EQUAL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt2", "outputs.npy", "points.npy"]


def test_what_has_no_counterpart_is_refused(solution, tmp_path):
    problem = solution.problem
    own = replace(TANH, name="mine")
    with pytest.raises(ValueError, match=r"activation 'mine' has no counterpart.*tanh"):
        architecture_of(replace(problem, activation=own))
    with pytest.raises(ValueError, match="hard constraints"):
        cost_of(minimal_norm(problem))
    with pytest.raises(ValueError, match=r"shape .*, expected .*layer by layer"):
        from_solution(solution).set_decisions(np.zeros(3))
    with pytest.raises(ValueError, match=r"widths is .*, expected"):
        to_solution(from_solution(solution), replace(problem, layers=problem.layers + 1))
    with pytest.raises(ValueError, match=r"\.pt2; change the name"):
        export(solution, tmp_path / "model.onnx")


def test_the_rate_of_the_control_needs_more_than_one_layer_and_counts_nothing_on_one():
    problem = replace(plain(), layers=1, penalty=H1)
    network = Network(architecture_of(problem))
    expected, _ = cost_and_gradient(problem, network.decisions())
    assert cost_of(problem)(network, *tensors(problem)).item() == pytest.approx(expected, rel=EQUAL)


BLOCKED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def run(code, folder):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_without_pytorch_a_solve_works_and_a_twin_names_the_extra(tmp_path):
    solve = "from problems.cli import main; sys.exit(main('solve xor --samples 4'.split()))"
    assert run(BLOCKED + solve, tmp_path).returncode == 0
    twin = run(BLOCKED + "import problems.torch_models", tmp_path)
    assert twin.returncode == 1
    assert "pip install 'turnpike[sgd]'" in twin.stderr


def test_pytorch_is_not_imported_by_a_solve(tmp_path):
    code = (
        "import sys, ocp\nfrom problems.cli import main\n"
        "main('solve xor --samples 4'.split())\nsys.exit('torch' in sys.modules)"
    )
    assert run(code, tmp_path).returncode == 0
