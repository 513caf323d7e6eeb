"""A user's model: read in every form, its gap by direct evaluation, and what would help it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from oracle import Network, Readout, objective, objective_and_gradient, pack, unpack

from problems import cli
from problems.appraisal import appraise, cost, replayed, time_rescaling, time_shift
from problems.appraisal_report import appraisal_report, appraisal_table
from problems.datasets import encode, load
from problems.interpolation import minimal_norm
from problems.learning import LearningProblem
from problems.losses import HINGE, LOGISTIC
from problems.model_arrays import decisions_of_model
from problems.solution_file import save_solution
from problems.training import train
from problems.vector_fields import BOTTLENECK

EXACT = 1e-10


def problem_of(**options):
    data = encode(load("moons", samples=8, seed=0), options.get("loss", LOGISTIC).name)
    defaults = {"layers": 6, "horizon": 2.0, "loss": LOGISTIC}
    return LearningProblem(data, **(defaults | options))


def network_of(problem):
    """The same problem for the oracle, which shares no code with the package."""
    return Network(
        problem.dataset.inputs,
        problem.dataset.targets,
        field=problem.field.name,
        hidden=problem.hidden_size,
        width=problem.state_size,
        horizon=problem.horizon,
        layers=problem.layers,
        loss=problem.loss.name,
        alpha=problem.terminal,
        beta=problem.tracking,
        decay=problem.weight_decay,
        readout="trained" if problem.trained_readout else "first",
        readout_decay=problem.readout_weight_decay,
    )


def parts_of(problem, decisions):
    size = decisions.size - problem.staged.parameter_size
    table = decisions[:size].reshape(problem.layers, -1)
    controls = problem.field.split_arrays(table, problem.state_size, problem.hidden_size)
    return controls, Readout(*problem.readout(decisions[size:]))


def evaluated(problem, decisions):
    return float(objective(network_of(problem), *parts_of(problem, decisions)))


@pytest.fixture(scope="module", params=[{}, {"trained_readout": True, "tracking": 0.5}])
def optimum(request):
    return train(problem_of(**request.param), starts=2)


@pytest.mark.parametrize("amount", [1e-4, 1e-2, 1.0])
def test_a_perturbed_optimum_has_the_gap_of_direct_evaluation(optimum, amount):
    problem, best = optimum.problem, optimum.trajectory.decisions
    direction = np.random.default_rng(3).standard_normal(best.size)
    model = best + amount * direction / np.linalg.norm(direction)
    found = appraise(problem, model, optimum)
    expected = evaluated(problem, model) - evaluated(problem, best)
    assert found.gap == pytest.approx(expected, abs=EXACT)
    terms = [found.costs[term] - found.reference_costs[term] for term in found.costs]
    assert sum(terms) == pytest.approx(expected, abs=EXACT)
    assert found.in_full.objective <= found.objective
    result = appraisal_report(found)
    assert result["gap"] == pytest.approx(expected, abs=EXACT)
    assert result["relative_gap"] == pytest.approx(expected / evaluated(problem, best), abs=EXACT)
    json.dumps(result, allow_nan=False)
    assert "largest residual" in appraisal_table(result)


def test_the_largest_residual_is_where_the_gradient_is_largest(optimum):
    problem, best = optimum.problem, optimum.trajectory.decisions
    model = best + 0.1 * np.random.default_rng(4).standard_normal(best.size)
    found = appraise(problem, model, optimum)
    network = network_of(problem)
    vector = pack(network, *parts_of(problem, model))
    _, gradient = objective_and_gradient(network, vector)
    slopes, readout = unpack(network, gradient)
    layers = np.stack([np.abs(u.reshape(problem.layers, -1)).max(axis=1) for u in slopes.values()])
    assert np.abs(found.layers - layers.max(axis=0)).max() <= EXACT
    worst = found.worst
    largest = np.abs(gradient).max()
    assert abs(worst.value) == pytest.approx(largest, abs=EXACT)
    name, place = worst.name.removesuffix("]").split("[")
    place = tuple(int(i) for i in place.split(", "))
    if worst.layer is None:
        value = {"readout_weight": readout.weight, "readout_bias": readout.bias}[name][place]
    else:
        value = slopes[name][(worst.layer, *place)]
    assert worst.value == pytest.approx(value, abs=EXACT)


def test_the_optimum_itself_cannot_be_improved(optimum):
    found = appraise(optimum.problem, optimum, optimum)
    assert found.gap == 0
    assert not any(found.is_improvable(name) for name in found.improvements)
    assert appraisal_report(found)["status"] == "solved"
    assert appraisal_report(found)["diagnosis"] == ["Nothing that was tried improves it."]


@pytest.mark.parametrize("loss", [LOGISTIC, HINGE], ids=lambda loss: loss.name)
def test_an_idle_first_layer_is_diagnosed_as_a_time_shift(loss):
    problem = problem_of(tracking=1.0, loss=loss, weight_decay=0.03)
    optimum = train(problem, starts=2)
    controls = optimum.trajectory.control_array
    model = np.vstack([np.zeros_like(controls[:1]), controls[:-1]])
    found = appraise(problem, model.ravel(), optimum)
    step = problem.horizon / problem.layers
    back = np.vstack([controls[:-1], np.zeros_like(controls[:1])]).ravel()
    gain = evaluated(problem, model.ravel()) - evaluated(problem, back)
    assert gain > 1e-3
    assert found.objective - found.time_shift.objective >= gain - EXACT
    assert found.time_shift.shift == pytest.approx(step, abs=0.2 * step)
    assert found.is_improvable("time-shift")
    diagnosed = [line for line in appraisal_report(found)["diagnosis"] if "time-shift" in line]
    assert "sooner" in diagnosed[0]
    assert evaluated(problem, found.time_shift.decisions) == pytest.approx(
        found.time_shift.objective, abs=EXACT
    )


def test_a_shift_by_whole_layers_moves_the_controls():
    problem = problem_of()
    decisions = np.random.default_rng(0).standard_normal(problem.staged.decision_size)
    table = decisions.reshape(problem.layers, -1)
    step = problem.horizon / problem.layers
    sooner = replayed(problem, decisions, problem.grid.nodes + 2 * step).reshape(table.shape)
    assert np.abs(sooner[:-2] - table[2:]).max() <= 1e-12
    assert np.abs(sooner[-2:]).max() <= 1e-12
    assert time_shift(problem, np.zeros_like(decisions)).shift == 0


def test_a_control_at_uneven_speed_is_run_at_an_even_one():
    """Without a running error the best speed of a path has |u| constant (Cauchy and Schwarz)."""
    problem = problem_of(layers=40)
    optimum = train(problem, starts=1)
    share = problem.grid.nodes / problem.horizon
    clock = problem.horizon * (share + 0.3 * np.sin(np.pi * share) ** 2 * share)
    uneven = replayed(problem, optimum.trajectory.decisions, clock * problem.horizon / clock[-1])
    gap = cost(problem, uneven) - optimum.solution.objective
    assert gap > 1e-3
    gain = cost(problem, uneven) - time_rescaling(problem, uneven).objective
    assert gain > 0.9 * gap


def test_a_readout_is_refitted_by_least_squares():
    data = encode(load("moons", samples=8, seed=0), "squared")
    problem = LearningProblem(data, layers=4, trained_readout=True, readout_decay=0.1)
    model = np.random.default_rng(0).standard_normal(problem.staged.decision_size)
    found = appraise(problem, model, train(problem)).refitted
    controls, _ = parts_of(problem, model)
    ends = problem.propagate(data.inputs, model)[-1]
    features = np.column_stack([ends, np.ones(len(ends))])
    gram = features.T @ features / len(ends) + 0.1 * np.eye(features.shape[1])
    best = np.linalg.solve(gram, features.T @ data.targets / len(ends))
    expected = problem.decisions(controls, best[:-1].T, best[-1])
    assert np.abs(found.decisions - expected).max() <= 1e-7
    assert found.objective == pytest.approx(evaluated(problem, expected), abs=EXACT)


# Forms of a model


@pytest.fixture(scope="module")
def trained():
    return train(problem_of(trained_readout=True, layers=3))


def forms_of_arrays(solution):
    weights = solution.weights
    readout = {"readout_weight": solution.readout_weight, "readout_bias": solution.readout_bias}
    by_layer = {f"{name}_{k}": u[k] for name, u in weights.items() for k in range(len(u))}
    modules = {"readout.weight": readout["readout_weight"], "readout.bias": readout["readout_bias"]}
    for k in range(len(weights["b"])):
        modules |= {f"net.layers.{k}.weight": weights["w"][k]}
        modules |= {f"net.layers.{k}.bias": weights["b"][k]}
    return [
        solution,
        solution.trajectory.decisions,
        {"decisions": solution.trajectory.decisions},
        weights | readout,
        {f"model.{name}": array for name, array in (weights | readout).items()},
        by_layer | readout,
        modules,
    ]


def test_every_form_of_arrays_is_read(trained, tmp_path):
    expected = trained.trajectory.decisions
    for form in forms_of_arrays(trained):
        assert (decisions_of_model(form, trained.problem) == expected).all()
    save_solution(tmp_path / "solution.npz", trained)
    np.savez(tmp_path / "plain.npz", **trained.weights, readout_weight=trained.readout_weight,
             readout_bias=trained.readout_bias)  # fmt: skip
    for name in ("solution.npz", "plain.npz"):
        assert (decisions_of_model(tmp_path / name, trained.problem) == expected).all()


def test_every_form_of_pytorch_is_read(trained, tmp_path):
    torch = pytest.importorskip("torch")
    from problems.torch_models import from_solution

    network, expected = from_solution(trained), trained.trajectory.decisions
    torch.save(network.state_dict(), tmp_path / "model.pt")
    forms = (network, network.state_dict(), tmp_path / "model.pt", str(tmp_path / "model.pt"))
    for form in forms:
        assert (decisions_of_model(form, trained.problem) == expected).all()
    width = trained.problem.state_size

    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(
                torch.nn.Linear(width, width).double() for _ in range(3)
            )
            self.readout = torch.nn.Linear(width, 1).double()

    mine = Mine()
    found = decisions_of_model(mine, trained.problem)
    points = torch.tensor(trained.problem.dataset.inputs)
    x = points
    for layer in mine.layers:
        x = x + trained.problem.horizon / 3 * layer(torch.tanh(x))
    outputs = mine.readout(x).detach().numpy()
    weight, bias = trained.problem.readout(found[trained.problem.staged.parameter_slice])
    ends = trained.problem.propagate(trained.problem.dataset.inputs, found)[-1]
    assert np.abs(ends @ weight.T + bias - outputs).max() <= 1e-12


def test_two_modules_in_a_layer_make_a_bottleneck():
    problem = problem_of(field=BOTTLENECK, hidden=3, layers=2)
    decisions = np.random.default_rng(0).standard_normal(problem.staged.decision_size)
    weights, _ = parts_of(problem, decisions)
    state = {}
    for k in range(2):
        for one, name in (("1", "inner"), ("2", "outer")):
            state[f"blocks.{k}.{name}.weight"] = weights[f"w{one}"][k]
            state[f"blocks.{k}.{name}.bias"] = weights[f"b{one}"][k]
    assert (decisions_of_model(state, problem) == decisions).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"w": a["w"][:2]}, r"w has shape \(2, 2, 2\), expected \(3, 2, 2\)"),
        (lambda a: a | {"w": a["w"] * np.nan}, "'w' holds a value that is not finite"),
        (lambda a: {"w": a["w"]}, "no array 'b', only 'w'"),
        (lambda a: {n: a[n] for n in ("w", "b")}, "no readout_weight, but the read-out is trained"),
        (lambda a: {"x": np.zeros(3)}, "has the arrays 'x', expected w, b stacked"),
        (lambda a: {"w_0": a["w"][0], "b_0": a["b"][0]}, "1 arrays w_0, ..., expected 3"),
        (lambda a: {"l.0.weight": a["w"][0]}, "1 layers of 1 linear modules, expected 3 of 1"),
        (lambda a: a | {"readout_bias": np.zeros(2)}, r"readout_bias has shape \(2,\)"),
        (lambda a: np.zeros(5), r"array of shape \(5,\), expected \(21,\)"),
        (lambda a: {"w": object()}, "'w' is of type object, expected an array of numbers"),
        (lambda a: "model.txt", "a model is read from .npz"),
        (lambda a: "none.npz", "there is no such file"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(trained, change, words):
    arrays = trained.weights | {
        "readout_weight": trained.readout_weight,
        "readout_bias": trained.readout_bias,
    }
    with pytest.raises(ValueError, match=words):
        decisions_of_model(change(arrays), trained.problem)


def test_a_readout_of_its_own_needs_a_trained_one(trained):
    fixed = replace(trained.problem, trained_readout=False)
    arrays = {"readout_weight": trained.readout_weight, "readout_bias": trained.readout_bias}
    with pytest.raises(ValueError, match="ask for a trained read-out"):
        decisions_of_model(trained.weights | arrays, fixed)
    with pytest.raises(ValueError, match="interpolation problem has none"):
        appraise(minimal_norm(replace(fixed, weight_decay=1.0)), trained)


def test_the_command_holds_a_model_against_the_reference(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    line = "moons --samples 8 --layers 4 --tracking 1 --optimizers none --repeats 1"
    data = encode(load("moons", samples=8, seed=0), "squared")
    problem = LearningProblem(data, layers=4, tracking=1.0)
    optimum = train(problem)
    controls = optimum.trajectory.control_array
    idle = np.vstack([np.zeros_like(controls[:1]), controls[:-1]])
    np.savez("idle.npz", **problem.field.split_arrays(idle, 2, 2))
    assert cli.main(["compare", *line.split(), "--model", "idle.npz", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out, parse_constant=pytest.fail)
    model = result["model"]
    assert err == ""
    assert model["gap"] == pytest.approx(
        evaluated(problem, idle.ravel()) - result["reference"]["objective"], abs=EXACT
    )
    assert model["improvements"]["time-shift"]["is_improvable"]
    assert model["improvements"]["in full"]["share_of_gap"] > 0.5
    assert cli.main(["compare", *line.split(), "--model", "idle.npz"]) == 0
    assert "a time-shift of its control" in capsys.readouterr().out
    assert cli.main(["compare", *line.split(), "--model", "none.npz"]) == 2
    assert "there is no such file" in capsys.readouterr().err
