"""Layouts of models: each is read to the last digit, or refused by the name of what has no place.

Values are drawn anew for every layout, so that an array in another's place cannot go unnoticed.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.model_arrays import decisions_of_model, read_model
from problems.vector_fields import BOTTLENECK, INSIDE, VectorField

torch = pytest.importorskip("torch")

D, K, M = 3, 4, 2  # width, layers, outputs
LINEAR = torch.nn.Linear


@dataclass
class Truth:
    """A problem, and drawn controls and read-out as (K, ...) arrays."""

    problem: LearningProblem
    arrays: dict
    weight: np.ndarray
    bias: np.ndarray

    @property
    def decisions(self):
        layers = [{name: u[k] for name, u in self.arrays.items()} for k in range(len(self["b"]))]
        return self.problem.decisions(layers, self.weight, self.bias)

    def __getitem__(self, name):
        return self.arrays[name] if name in self.arrays else self.arrays[f"{name}1"]


def truth_of(field=INSIDE, hidden=None, layers=K, trained=True, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    data = Dataset("points", rng.standard_normal((5, D)), rng.standard_normal((5, M)))
    problem = LearningProblem(
        data, field=field, hidden=hidden, layers=layers, horizon=2.0, trained_readout=trained
    )

    def draw(*shape):
        values = rng.standard_normal(shape)
        return values if digits is None else np.round(values * 2**digits) / 2**digits

    shapes = problem.layer(0).shapes
    arrays = {name: draw(layers, *shape) for name, shape in shapes.items()}
    if not trained:
        return Truth(problem, arrays, *problem.readout(np.zeros(0)))
    return Truth(problem, arrays, draw(M, D), draw(M))


def linear_modules(truth, name="layers.{k}", suffix=""):
    """Keys of Linear modules, weight before bias, as PyTorch defines them."""
    pairs = {"weight": f"w{suffix}", "bias": f"b{suffix}"}
    return {
        f"{name.format(k=k)}.{leaf}": truth.arrays[control][k]
        for k in range(len(truth.arrays[f"b{suffix}"]))
        for leaf, control in pairs.items()
    }


def readout(truth, module="readout"):
    return {f"{module}.weight": truth.weight, f"{module}.bias": truth.bias}


def tensors(arrays, dtype=torch.float64):
    return {name: torch.tensor(np.asarray(array)).to(dtype) for name, array in arrays.items()}


def alphabetical(arrays):
    """As .safetensors and JAX keep them."""
    return dict(sorted(arrays.items()))


# Layouts that are read: each gives (truth, model)


def list_of_linears():
    truth = truth_of()
    return truth, linear_modules(truth) | readout(truth)


def list_of_sequentials(hidden=2, layers=K):
    truth = truth_of(BOTTLENECK, hidden, layers)
    state = {}
    for k in range(layers):
        for place, one in (("0", "1"), ("2", "2")):
            state[f"layers.{k}.{place}.weight"] = truth.arrays[f"w{one}"][k]
            state[f"layers.{k}.{place}.bias"] = truth.arrays[f"b{one}"][k]
    return truth, state | readout(truth)


def list_of_sequentials_of_one_width():
    truth, state = list_of_sequentials(D)
    return truth, alphabetical(state)


def eleven_layers_in_alphabetical_order():
    truth, state = list_of_sequentials(D, 11)
    return truth, alphabetical(state)


def two_lists(hidden=2):
    truth = truth_of(BOTTLENECK, hidden)
    up, down = linear_modules(truth, "up.{k}", "1"), linear_modules(truth, "down.{k}", "2")
    return truth, up | down | readout(truth)


def two_lists_of_one_width():
    return two_lists(D)


def two_lists_in_alphabetical_order():
    truth, state = two_lists()
    return truth, alphabetical(state)


def numbered_modules_in_a_block():
    truth = truth_of(BOTTLENECK, D)
    inner = linear_modules(truth, "block.{k}.fc1", "1")
    outer = linear_modules(truth, "block.{k}.fc2", "2")
    return truth, alphabetical(inner | outer | readout(truth))


def lists_of_parameters():
    truth = truth_of()
    state = {f"{name}.{k}": u[k] for name, u in truth.arrays.items() for k in range(K)}
    return truth, state | readout(truth)


def layers_with_parameters():
    truth = truth_of(BOTTLENECK, 2)
    state = {f"net.{k}.{name}": u[k] for name, u in truth.arrays.items() for k in range(K)}
    return truth, state | readout(truth)


def one_sequential_with_activations_between():
    truth = truth_of()
    state = {}
    for k in range(K):
        state[f"net.{2 * k + 1}.weight"], state[f"net.{2 * k + 1}.bias"] = (
            truth["w"][k],
            truth["b"][k],
        )
    return truth, state | readout(truth)


def linears_without_bias():
    truth = truth_of()
    truth.arrays["b"][:], truth.bias[:] = 0, 0
    state = {f"layers.{k}.weight": truth["w"][k] for k in range(K)}
    return truth, state | {"readout.weight": truth.weight}


def one_layer():
    truth = truth_of(layers=1)
    return truth, linear_modules(truth) | readout(truth)


def a_head():
    truth = truth_of()
    return truth, linear_modules(truth, "body.layers.{k}") | readout(truth, "head")


def a_head_in_a_sequential():
    truth = truth_of()
    return truth, linear_modules(truth) | readout(truth, "classifier.1")


def stacked_under_a_prefix():
    truth = truth_of()
    readout_arrays = {"readout_weight": truth.weight, "readout_bias": truth.bias}
    return truth, {f"net.model.{n}": u for n, u in (truth.arrays | readout_arrays).items()}


def one_array_per_layer():
    truth = truth_of(BOTTLENECK, 2, layers=11)
    state = {f"net.{n}_{k}": u[k] for n, u in truth.arrays.items() for k in range(11)}
    return truth, alphabetical(state | {"readout_weight": truth.weight, "readout_bias": truth.bias})


def checkpoint_of_a_script(name="model_state_dict"):
    truth, state = list_of_linears()
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    beside = {"epoch": 3, "optimizer_state_dict": optimizer, "loss": torch.tensor(0.3)}
    return truth, {**beside, name: tensors(state), "note": "best so far", "accuracy": 0.9}


def checkpoint_named_state_dict():
    return checkpoint_of_a_script("state_dict")


def checkpoint_named_model():
    return checkpoint_of_a_script("model")


def checkpoint_of_lightning():
    truth, state = list_of_linears()
    return truth, {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": tensors({f"model.{name}": array for name, array in state.items()}),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor([0.3])}},
        "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}, "param_groups": []}],
        "lr_schedulers": [],
        "grad_scaler": {"scale": 65536.0, "growth_tracker": torch.tensor(3)},
        "config": {"data": {"names": ["a", "b"], "rate": 0.1}},
        "hyper_parameters": {"width": 3},
    }


def arrays_beside_an_optimizer():
    truth, state = list_of_linears()
    opt = {"state": {}, "param_groups": [{"params": [0]}]}
    return truth, {**tensors(state), "opt": opt, "epoch": 7}


def compiled_in_data_parallel():
    truth, state = two_lists()
    return truth, {f"module._orig_mod.{name}": array for name, array in state.items()}


def compiled_inside():
    truth, state = two_lists()
    return truth, {f"net._orig_mod.{name}": array for name, array in state.items()}


def averaged():
    truth, state = list_of_linears()
    wrapped = {f"module.{name}": array for name, array in tensors(state).items()}
    return truth, {"n_averaged": torch.tensor(5), **wrapped}


def bfloat16():
    truth = truth_of(digits=3)
    return truth, tensors(linear_modules(truth) | readout(truth), torch.bfloat16)


def float16_in_numpy():
    truth = truth_of(digits=5)
    state = linear_modules(truth) | readout(truth)
    return truth, {name: array.astype(np.float16) for name, array in state.items()}


def sparse():
    truth = truth_of()
    truth["w"][:, 0] = 0
    state = tensors(linear_modules(truth) | readout(truth))
    sparse = [u.to_sparse() if "bias" in n else u.to_sparse_csc() for n, u in state.items()]
    return truth, dict(zip(state, sparse, strict=True))


def integers():
    truth = truth_of(digits=0)
    state = linear_modules(truth) | readout(truth)
    return truth, {n: torch.tensor(u.astype(np.int64)) for n, u in state.items()}


def nested_lists():
    truth = truth_of()
    return truth, {n: u.tolist() for n, u in (linear_modules(truth) | readout(truth)).items()}


def views():
    """Transposed, negated lazily, and with a gradient to come."""
    truth = truth_of()
    state = tensors(linear_modules(truth) | readout(truth))
    state["layers.0.weight"] = state["layers.0.weight"].T.contiguous().T
    turned = torch.view_as_complex(
        torch.stack([torch.zeros(D, D).double(), -state["layers.1.weight"]], -1)
    )
    state["layers.1.weight"] = turned.conj().imag
    assert state["layers.1.weight"].is_neg()
    state["layers.2.weight"].requires_grad_()
    return truth, state


def pruned():
    truth = truth_of()
    mask = np.random.default_rng(1).integers(2, size=truth["w"].shape)
    state = {}
    for k in range(K):
        state[f"layers.{k}.bias"] = truth["b"][k]
        state[f"layers.{k}.weight_orig"] = truth["w"][k].copy()
        state[f"layers.{k}.weight_mask"] = mask[k]
    truth.arrays["w"] = truth["w"] * mask
    return truth, tensors(state | readout(truth))


READ = [
    list_of_linears,
    list_of_sequentials,
    list_of_sequentials_of_one_width,
    eleven_layers_in_alphabetical_order,
    two_lists,
    two_lists_of_one_width,
    two_lists_in_alphabetical_order,
    numbered_modules_in_a_block,
    lists_of_parameters,
    layers_with_parameters,
    one_sequential_with_activations_between,
    linears_without_bias,
    one_layer,
    a_head,
    a_head_in_a_sequential,
    stacked_under_a_prefix,
    one_array_per_layer,
    checkpoint_of_a_script,
    checkpoint_named_state_dict,
    checkpoint_named_model,
    checkpoint_of_lightning,
    arrays_beside_an_optimizer,
    compiled_in_data_parallel,
    compiled_inside,
    averaged,
    bfloat16,
    float16_in_numpy,
    sparse,
    integers,
    nested_lists,
    views,
    pruned,
]


@pytest.mark.parametrize("layout", READ)
@pytest.mark.filterwarnings("ignore:Sparse")  # that the layout is in beta
def test_a_layout_is_read_to_the_last_digit(layout):
    truth, model = layout()
    reading = read_model(model, truth.problem)
    assert reading.decisions.dtype == np.float64
    assert (reading.decisions == truth.decisions).all()
    assert reading.note is None


@pytest.mark.parametrize(
    "layout",
    [list_of_linears, two_lists_of_one_width, checkpoint_of_a_script, averaged, bfloat16, sparse],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_layout_is_read_from_a_file_of_pytorch(layout, tmp_path):
    truth, model = layout()
    if isinstance(next(iter(model.values())), np.ndarray):
        model = tensors(model)
    torch.save(model, tmp_path / "model.pt")
    assert (decisions_of_model(tmp_path / "model.pt", truth.problem) == truth.decisions).all()


@pytest.mark.parametrize("layout", [eleven_layers_in_alphabetical_order, two_lists, a_head])
def test_a_layout_is_read_from_a_file_of_safetensors(layout, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    truth, model = layout()
    safetensors.save_file(tensors(model), tmp_path / "model.safetensors")
    found = decisions_of_model(tmp_path / "model.safetensors", truth.problem)
    assert (found == truth.decisions).all()


@pytest.mark.filterwarnings("ignore:.*weight_norm")  # that it is deprecated
def test_weight_normalisation_is_undone_by_its_formula():
    truth = truth_of()
    state = {}
    for k in range(K):
        layer = LINEAR(D, D).double()
        layer.weight.data = torch.tensor(truth["w"][k])
        layer.bias.data = torch.tensor(truth["b"][k])
        normed = torch.nn.utils.weight_norm(layer, dim=(0, 1, None, 0)[k])
        state |= {f"layers.{k}.{name}": u for name, u in normed.state_dict().items()}
    found = decisions_of_model(state | readout(truth), truth.problem)
    # g V / |V| by PyTorch and by NumPy round apart
    assert np.abs(found - truth.decisions).max() <= 1e-15 * np.abs(truth.decisions).max() * 8


@pytest.mark.parametrize(
    ("layout", "sources"),
    [
        (two_lists, {"w1": "up.k.weight", "b2": "down.k.bias", "readout_bias": "readout.bias"}),
        (list_of_sequentials, {"w1": "layers.k.0.weight", "w2": "layers.k.2.weight"}),
        (a_head, {"w": "body.layers.k.weight", "readout_weight": "head.weight"}),
        (linears_without_bias, {"b": "zero", "readout_bias": "zero"}),
        (one_array_per_layer, {"w2": "net.w2_k"}),
        (stacked_under_a_prefix, {"w": "net.model.w"}),
    ],
)
def test_it_is_said_which_array_was_read_as_what(layout, sources):
    truth, model = layout()
    assert sources.items() <= read_model(model, truth.problem).sources.items()


def test_a_solution_file_is_read_as_the_mapping_that_numpy_makes_of_it(tmp_path):
    from problems.solution_file import save_solution
    from problems.training import train

    solution = train(replace(truth_of(layers=1).problem, weight_decay=1.0))
    save_solution(tmp_path / "solution.npz", solution)
    with np.load(tmp_path / "solution.npz") as file:
        for model in (file, dict(file)):
            found = decisions_of_model(model, solution.problem)
            assert (found == solution.trajectory.decisions).all()


# What is refused: each takes the state of a list of linear layers and changes it


def without(state, *keys):
    return {name: array for name, array in state.items() if name not in keys}


def renumbered(state, numbers):
    return {
        f"layers.{numbers[int(name.split('.')[1])]}.{name.split('.')[2]}": array
        for name, array in state.items()
        if name.startswith("layers")
    } | {name: array for name, array in state.items() if name.startswith("readout")}


def lift(state):
    return {"lift.weight": np.zeros((D, D)), "lift.bias": np.zeros(D)} | state


ZEROS = np.zeros((D, D))
REFUSED = {
    "a lift before the layers": (lift, r"no place for: 'lift.weight', 'lift.bias'; apply a map"),
    "an output layer of another name": (
        lambda s: {n.replace("readout", "final"): u for n, u in s.items()},
        r"no place for: 'final.weight', 'final.bias'; call the output layer readout",
    ),
    "two output layers": (
        lambda s: s | {"head.weight": np.zeros((M, D))},
        r"2 output layers, 'head', 'readout'",
    ),
    "an output layer of several linear modules": (
        lambda s: (
            without(s, "readout.weight", "readout.bias")
            | {"head.0.weight": ZEROS, "head.2.weight": np.zeros((M, D))}
        ),
        r"2 output layers, 'head.0', 'head.2'",
    ),
    "an averaged copy": (
        lambda s: s | {f"ema.{name}": array for name, array in s.items()},
        r"2 output layers, 'ema.readout', 'readout'",
    ),
    "an averaged copy of the layers": (
        lambda s: s | {f"ema.{n}": u for n, u in s.items() if "layers" in n},
        r"4 layers of 2 linear modules, expected 4 of 1;.*'layers.0', 'ema.layers.0'",
    ),
    "an averaged copy first": (
        lambda s: {f"ema.{n}": u for n, u in s.items() if "layers" in n} | s,
        r"holds 'ema.layers.0', 'layers.0'",
    ),
    "an averaged copy in a dictionary": (
        lambda s: {"model": s, "model_ema": dict(s)},
        r"dictionaries 'model', 'model_ema', expected one network",
    ),
    "a scaler of the inputs": (
        lambda s: {"model": s, "scaler": {"mean": np.zeros(D)}},
        r"dictionaries 'model', 'scaler', expected one network",
    ),
    "parts of a network in dictionaries": (
        lambda s: {"body": without(s, "readout.weight"), "tail": {"weight": ZEROS}},
        r"dictionaries 'body', 'tail', expected one network",
    ),
    "arrays beside the dictionary": (
        lambda s: {"state_dict": s, "scale": np.ones(3)},
        r"arrays 'scale' beside the dictionary 'state_dict'",
    ),
    "arrays in a list beside the dictionary": (
        lambda s: {"state_dict": s, "extra": [torch.ones(3)]},
        r"arrays 'extra' beside",
    ),
    "a dictionary in itself": (lambda s: cyclic(s), "dictionaries 'model', expected one network"),
    "names that are numbers": (lambda s: {0: s["layers.0.weight"]}, r"names its arrays '0'"),
    "a missing layer": (
        lambda s: without(s, "layers.2.weight", "layers.2.bias"),
        r"3 layers of 1 linear modules, expected 4 of 1; the layers are numbered 0, 1, 3",
    ),
    "a layer too many": (
        lambda s: s | {"layers.4.weight": ZEROS, "layers.4.bias": np.zeros(D)},
        r"5 layers of 1 linear modules, expected 4",
    ),
    "a gap in the numbers": (
        lambda s: renumbered(s, [0, 1, 2, 4]),
        r"numbered 0, 1, 2, 4, expected 0 to 3; a layer is missing",
    ),
    "layers from 1": (lambda s: renumbered(s, [1, 2, 3, 4]), r"numbered 1, 2, 3, 4, expected 0"),
    "a bias without weight": (
        lambda s: without(s, "layers.1.weight"),
        r"layer 1 has a bias but no weight, 'layers.1.bias'",
    ),
    "a bias that one layer lacks": (
        lambda s: without(s, "layers.3.bias"),
        r"no bias \(b\) in layer 3, as 'layers.0.bias' is",
    ),
    "a normalisation in the layers": (
        lambda s: (
            s
            | {
                f"layers.{k}.norm.{leaf}": np.ones(D)
                for k in range(K)
                for leaf in ("weight", "bias")
            }
        ),
        r"4 layers of 2 linear modules, expected 4 of 1.*'layers.0.norm'",
    ),
    "a parameter of another name": (
        lambda s: s | {f"layers.{k}.gamma": np.ones(D) for k in range(K)},
        r"no place for: 'layers.0.gamma', 'layers.1.gamma'",
    ),
    "one name twice without wrappers": (
        lambda s: s | {"module.layers.0.weight": ZEROS},
        r"'layers.0.weight' and 'module.layers.0.weight' are one name",
    ),
    "one layer twice by its number": (
        lambda s: s | {"layers.00.weight": ZEROS},
        r"'layers.0.weight' and 'layers.00.weight' for one layer",
    ),
    "a weight and what it is made from": (
        lambda s: s | {"layers.0.weight_orig": ZEROS, "layers.0.weight_mask": ZEROS},
        r"'layers.0.weight' and 'layers.0.weight_orig', from which it is computed",
    ),
    "a mask of another shape": (
        lambda s: (
            without(s, "layers.0.weight")
            | {"layers.0.weight_orig": ZEROS, "layers.0.weight_mask": np.ones(D)}
        ),
        r"'layers.0.weight_mask' is no mask",
    ),
    "half of a pruned weight": (
        lambda s: without(s, "layers.0.weight") | {"layers.0.weight_orig": ZEROS},
        r"layer 0 has a bias but no weight",
    ),
    "a parametrization without its module": (
        lambda s: (
            without(s, "layers.0.weight") | {"layers.0.parametrizations.weight.original": ZEROS}
        ),
        r"'layers.0.parametrizations.weight.original' belongs to a parametrization",
    ),
    "two forms at once": (
        lambda s: s | {"w": np.zeros((K, D, D)), "b": np.zeros((K, D))},
        r"no place for: 'layers.0.weight'",
    ),
    "stacked arrays of two networks": (
        lambda s: {p + n: np.zeros((K, D, D)[: 4 - len(n)]) for p in ("", "ema.") for n in "wb"},
        r"'w', 'ema.w', 'b', 'ema.b' under 2 prefixes",
    ),
    "arrays by layer of two networks": (
        lambda s: {f"{p}{n}_{k}": ZEROS for p in ("", "ema.") for n in "wb" for k in range(K)},
        r"under 2 prefixes, expected one network",
    ),
    "an array by layer that is missing": (
        lambda s: {f"{n}_{k}": ZEROS for n in "wb" for k in (0, 1, 3)},
        r"3 arrays w_0, ..., expected 4, one per layer; their numbers are 0, 1, 3",
    ),
    "a layer of another shape": (
        lambda s: s | {"layers.1.weight": np.zeros((D, 2))},
        r"w of layer 1 has shape \(3, 2\), expected \(3, 3\)",
    ),
    "an output layer of another shape": (
        lambda s: s | {"readout.weight": np.zeros((M + 1, D))},
        r"readout_weight has shape \(3, 3\), expected \(2, 3\), in 'readout.weight'",
    ),
    "an output layer without weight": (
        lambda s: without(s, "readout.weight"),
        r"no readout_weight, but the read-out is trained",
    ),
    "a number beside the arrays": (lambda s: s | {"beta": 0.5}, r"no place for: 'beta'"),
    "a number without end": (
        lambda s: s | {f"layers.{'9' * 5000}.weight": ZEROS},
        r"no place for: 'layers.9+\.\.\.'",
    ),
    "nothing": (lambda s: {}, r"has the arrays none, expected w, b stacked"),
    "only what an optimiser remembers": (
        lambda s: {"optimizer": {"state": {0: torch.ones(2)}, "param_groups": []}},
        r"has the arrays none",
    ),
}


def cyclic(state):
    found = {}
    found["model"] = found
    return found


@pytest.mark.parametrize("case", REFUSED)
def test_a_layout_with_no_place_in_the_network_is_refused_by_name(case):
    change, words = REFUSED[case]
    truth, state = list_of_linears()
    with pytest.raises(ValueError, match=words) as caught:
        decisions_of_model(change(state), truth.problem)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


VALUES = {
    "complex": (lambda u: torch.complex(u, u), "is complex, and its imaginary part would be lost"),
    "complex in NumPy": (lambda u: u.numpy() + 0j, "is complex"),
    "complex in lists": (lambda u: [[1j] * D] * D, "is complex"),
    "a sparse complex tensor": (lambda u: torch.complex(u, u).to_sparse(), "is complex"),
    "a meta tensor": (lambda u: u.to("meta"), "is a meta tensor, which has a shape but no values"),
    "NaN": (lambda u: u * torch.nan, "holds a value that is not finite"),
    "NaN in half precision": (lambda u: (u * torch.nan).bfloat16(), "not finite"),
    "an infinity": (lambda u: u / 0, "not finite"),
    "too large for half precision": (lambda u: (u.sign() * 1e30).half(), "not finite"),
    "booleans": (lambda u: u > 0, "is of type bool, expected an array of numbers"),
    "integers beyond 2^53": (lambda u: torch.full((D, D), 2**53 + 1), "integers of 2\\^53 or more"),
    "unsigned beyond 2^53": (
        lambda u: np.full((D, D), 2**64 - 1, dtype=np.uint64),
        "integers of",
    ),
    "integers for a minimum": (
        lambda u: torch.full((D, D), -(2**63)),
        "integers of 2\\^53 or more",
    ),
    "text": (lambda u: "random", "is of type str, expected an array of numbers"),
    "text of numbers": (lambda u: np.full((D, D), "1.0"), "expected an array of numbers"),
    "nothing": (lambda u: None, "is of type NoneType"),
    "bytes": (lambda u: b"123", "is of type bytes"),
    "lists of several lengths": (lambda u: [[1.0], [1.0, 2.0]], "is of type list"),
    "a lazy module's parameter": (
        lambda u: torch.nn.LazyLinear(D).weight,
        "is a tensor that has no dense values",
    ),
    "masked entries": (
        lambda u: np.ma.masked_array(u.numpy(), np.eye(D)),
        "'layers.1.weight' has masked entries",
    ),
    "a quantised tensor of another shape": (
        lambda u: torch.quantize_per_tensor(u[:2].float(), 0.1, 0, torch.qint8),
        r"w of layer 1 has shape \(2, 3\)",
    ),
}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.filterwarnings("ignore")  # PyTorch's of lazy, nested and quantised tensors
def test_a_value_that_is_no_finite_real_array_is_refused_by_name(case):
    change, words = VALUES[case]
    truth, state = list_of_linears()
    state = tensors(state)
    state["layers.1.weight"] = change(state["layers.1.weight"])
    with pytest.raises(ValueError, match=words) as caught:
        decisions_of_model(state, truth.problem)
    assert "layers.1.weight" in str(caught.value) or "layer 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_head_is_refused_where_the_readout_is_fixed():
    truth = truth_of(trained=False)
    state = linear_modules(truth)
    assert (decisions_of_model(state, truth.problem) == truth.decisions).all()
    fixed = {"readout.weight": truth.weight, "readout.bias": truth.bias}
    assert (decisions_of_model(state | fixed, truth.problem) == truth.decisions).all()
    for name, array in (("head.weight", truth.weight + 1), ("readout.bias", truth.bias + 1)):
        model = state | fixed | {name: array}
        model = without(model, "readout.weight", "readout.bias") if "head" in name else model
        with pytest.raises(ValueError, match=f"{name}.*ask for a trained read-out"):
            decisions_of_model(model, truth.problem)


def test_a_copy_is_no_second_module_of_a_bottleneck():
    truth = truth_of(BOTTLENECK, D)
    state = linear_modules(truth, "layers.{k}", "1")
    for copy in ("ema.layers.{k}", "layers_ema.{k}", "shadow.{k}"):
        model = state | linear_modules(truth, copy, "2") | readout(truth)
        with pytest.raises(ValueError, match="one is a copy of the other"):
            decisions_of_model(model, truth.problem)


def test_two_modules_of_one_shape_whose_order_nobody_knows_are_refused():
    truth, state = two_lists(D)
    with pytest.raises(ValueError, match=r"do not say which is w1; call them w1 and w2"):
        decisions_of_model(alphabetical(state), truth.problem)
    named = {name.replace("up.", "w1.").replace("down.", "w2."): u for name, u in state.items()}
    assert (decisions_of_model(alphabetical(named), truth.problem) == truth.decisions).all()


def test_a_field_of_ones_own_is_read_by_its_own_names():
    def mixture(x, u, s):
        return u["a"] @ s(x) + u["c"] @ x

    own = VectorField(
        "mixture",
        lambda width, hidden: {"a": (width, width), "c": (width, width)},
        mixture,
        lambda u, slope: np.inf,
    )
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((5, D)), rng.standard_normal((5, M)))
    problem = LearningProblem(data, field=own, layers=K)
    arrays = {name: rng.standard_normal((K, D, D)) for name in "ac"}
    layers = [{name: u[k] for name, u in arrays.items()} for k in range(K)]
    expected = problem.decisions(layers, *problem.readout(np.zeros(0)))
    single = {f"layers.{k}.{name}": u[k] for name, u in arrays.items() for k in range(K)}
    for model in (arrays, single, {f"{n}_{k}": u[k] for n, u in arrays.items() for k in range(K)}):
        assert (decisions_of_model(model, problem) == expected).all()
    linear = {f"layers.{k}.{m}.weight": arrays["a"][k] for k in range(K) for m in (0, 2)}
    with pytest.raises(ValueError, match="expected a, c stacked"):
        decisions_of_model(linear, problem)


def test_modules_that_are_not_in_every_layer_are_refused():
    truth, state = two_lists()
    for leaf in ("weight", "bias"):
        state[f"middle.2.{leaf}"] = state.pop(f"down.2.{leaf}")
    with pytest.raises(ValueError, match=r"'(down.0|middle.2)', and no such module in layer (2|0)"):
        decisions_of_model(state, truth.problem)


def test_names_of_a_file_reach_no_terminal_as_they_are():
    truth, state = list_of_linears()
    with pytest.raises(ValueError, match="no place for") as caught:
        decisions_of_model(state | {"\x1b[2J\n": ZEROS}, truth.problem)
    assert str(caught.value).isprintable()
