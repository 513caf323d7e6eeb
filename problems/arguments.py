"""Arguments of the command line `turnpike`: what may be asked for, and one clear line if not."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ocp import Method
from problems.losses import LOSSES
from problems.reading import CATEGORICAL_WAYS, MISSING_WAYS
from problems.regularizers import PENALTIES
from problems.report import versions
from problems.solution_file import SCHEMES
from problems.spatial_grid import RULES
from problems.text_tables import TEXT_SUFFIXES
from problems.transfer import TRANSFERS
from problems.vector_fields import ACTIVATIONS, FIELDS

REQUEST_WRONG = 2  # exit code

DOMAINS = ["interval", "square"]
SEPARATORS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "\\t": "\t",
    "pipe": "|",
    "space": " ",
}
LATER = "arrives with a later version"


class RequestError(ValueError):
    """A request that cannot be met; its one line says what was expected, what came, what to do."""


class Parser(argparse.ArgumentParser):
    """Errors are one line on standard error, and unknown options suggest the nearest."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(REQUEST_WRONG, f"{self.prog}: {' '.join(message.split())}\n")

    def suggestion(self, unknown: str) -> str:
        """What an unknown option may have meant."""
        if not unknown.startswith("-"):
            return ""
        known = [option for action in self._actions for option in action.option_strings]
        return did_you_mean(unknown.split("=")[0], known)


def did_you_mean(word: str, known: list[str]) -> str:
    """'; did you mean ...?' or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def _names(names: Mapping[str, Any]) -> str:
    return " | ".join(names)


def _one_of(kind: str, names: Mapping[str, Any] | list[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text in names:
            return text
        raise argparse.ArgumentTypeError(
            f"unknown {kind} {text!r}{did_you_mean(text, list(names))} "
            f"(choose from {', '.join(names)})"
        )

    return convert


def _number(positive: bool) -> Callable[[str], float]:
    wanted = "a positive number" if positive else "a number that is zero or positive"

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0 or (positive and value == 0):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return value

    return convert


def _integer(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, got {text!r}"
            )
        return value

    return convert


def _tolerance(text: str) -> float:
    value = _number(positive=True)(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def _list_of_numbers(text: str) -> tuple[float, ...]:
    number = _number(positive=True)
    values = tuple(number(part.strip()) for part in text.split(","))
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"expected numbers that are all different, got {text!r}")
    return values


def _list_of_widths(text: str) -> tuple[int, ...]:
    integer = _integer(1)
    return tuple(integer(part.strip()) for part in text.split(","))


def _share(text: str) -> float:
    value = _number(positive=True)(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text!r}")
    return value


def _optimizers(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        _one_of("optimizer", [*OPTIMIZERS, "none"])(name)
    if len(set(names)) < len(names) or "none" in names:
        raise argparse.ArgumentTypeError(f"expected names that are all different, got {text!r}")
    return names


def _separator(text: str) -> str:
    """One character, or the name of one that is hard to type."""
    separator = SEPARATORS.get(text, text)
    if len(separator) != 1 or separator in '"\r\n':
        raise argparse.ArgumentTypeError(
            f"expected one character such as ';', or one of {', '.join(SEPARATORS)}, got {text!r}"
        )
    return separator


def _decimal(text: str) -> str:
    decimal = {"comma": ",", "point": "."}.get(text, text)
    if decimal not in (".", ","):
        raise argparse.ArgumentTypeError(f"expected '.' or ',', got {text!r}")
    return decimal


def _comment(text: str) -> str:
    if len(text) > 1 or text in ('"', "\n"):
        raise argparse.ArgumentTypeError(
            f"expected one character such as '#', or '' for no comments, got {text!r}"
        )
    return text


def _later(text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"this option {LATER}; leave it out")


def _add_ladder(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("ladder").add_argument
    add(
        "--horizons",
        type=_list_of_numbers,
        metavar="LIST",
        help="T1,T2,...: one solve per horizon, in increasing order",
    )
    add(
        "--weight-decays",
        type=_list_of_numbers,
        metavar="LIST",
        help="one solve per weight decay at fixed horizon, in decreasing order",
    )
    add(
        "--keep",
        type=_one_of("choice", ["layers", "step"]),
        default="layers",
        help="layers: the same number on every horizon | step: the same length of a layer, "
        "that of the smallest horizon [layers]",
    )
    add(
        "--held-out",
        type=_share,
        metavar="SHARE",
        help="of the samples, to measure on and not to train on [none; data that are generated, or "
        "real data with --samples, are measured on others of their kind]",
    )


# Of `problems.torch_optimizers`, which cannot be asked where PyTorch is missing
OPTIMIZERS = ("gradient-descent", "momentum", "sgd", "adam", "adamw", "l-bfgs")


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("optimizers").add_argument
    add(
        "--optimizers",
        type=_optimizers,
        default=OPTIMIZERS,
        metavar="LIST",
        help=f"some of {', '.join(OPTIMIZERS)}, or none [all]",
    )
    add(
        "--rates",
        type=_list_of_numbers,
        metavar="LIST",
        help="of all optimisers, in place of their own grids: lr = RATE / (T h) for gradient "
        "methods, RATE / T for Adam and AdamW, with h = T / K",
    )
    add("--repeats", type=_integer(1), default=3, metavar="R", help="initial networks [3]")
    add(
        "--evaluations",
        type=_integer(1),
        default=500,
        metavar="N",
        help="gradients over all samples that a run may use [500]",
    )
    add(
        "--initial-scale",
        type=_number(True),
        default=1.0,
        metavar="C",
        help="factor on the initial networks, those of torch.nn.Linear over T [1.0]",
    )
    add(
        "--model",
        metavar="FILE",
        help="a trained network of your own, .npz, .safetensors or .pt, held against the "
        "reference [none]",
    )


def _add_problem(parser: argparse.ArgumentParser) -> None:
    keeps_folder = parser.prog.endswith(("sweep", "compare"))
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"a name from `turnpike datasets`, or a file: {', '.join(TEXT_SUFFIXES)}, "
        "also with .gz, or .npz",
    )
    add = parser.add_argument_group("data").add_argument
    add(
        "--target",
        metavar="COL[,COL...]",
        help="target columns; in double quotes where names hold commas [the last]",
    )
    add(
        "--separator",
        type=_separator,
        metavar="CHAR",
        help="of cells: a character, or tab | space (a run of blanks) [found from the file]",
    )
    add("--decimal", type=_decimal, metavar="CHAR", help="decimal mark . or , [from the file]")
    add(
        "--comment",
        type=_comment,
        metavar="CHAR",
        help="lines that begin with it are left out; '' for none [#, where that is no sample]",
    )
    add(
        "--no-header",
        action="store_true",
        help="the first line is a sample; columns are x1, x2, ...",
    )
    add(
        "--missing",
        type=_one_of("way with missing values", list(MISSING_WAYS)),
        default="fail",
        help="fail | drop (the samples) | mean (of the column, for inputs) [fail]",
    )
    add(
        "--categorical",
        type=_one_of("way with inputs of text", list(CATEGORICAL_WAYS)),
        default="fail",
        help="fail | one-hot (a column of 0 and 1 per label) [fail]",
    )
    add("--standardize", action="store_true", help="inputs to zero mean and unit deviation")
    add("--samples", type=_integer(2), metavar="N", help="size of generated data [50]")
    add("--seed", type=_integer(0), default=0, metavar="S", help="of data and starts [0]")
    add = parser.add_argument_group("network").add_argument
    add("--field", type=_one_of("field", FIELDS), default="inside", help=" | ".join(FIELDS))
    add(
        "--activation",
        type=_one_of("activation", ACTIVATIONS),
        default="tanh",
        help=" | ".join(ACTIVATIONS),
    )
    add("--width", type=_integer(1), metavar="D", help="size of the state [max(inputs, targets)]")
    add("--hidden", type=_integer(1), metavar="H", help="hidden width, bottleneck only")
    add("--horizon", type=_number(True), default=1.0, metavar="T", help="[1.0]")
    add("--layers", type=_integer(1), default=20, metavar="K", help="[20]")
    add("--scheme", type=_one_of("scheme", SCHEMES), default="euler", help=" | ".join(SCHEMES))
    add("--substeps", type=_integer(1), default=1, metavar="S", help="[1]")
    add("--readout", type=_one_of("read-out", ["first", "trained"]), default="first")
    add(
        "--widths",
        type=_list_of_widths,
        metavar="LIST",
        help="D0,D1,...,DK before each layer and at the end; a shorter list is spread evenly",
    )
    add("--grid", type=_one_of("grid", RULES), help=f"inputs are values at nodes: {_names(RULES)}")
    add("--domain", type=_one_of("domain", DOMAINS), help="of the grid: interval | square")
    add(
        "--transfer",
        type=_one_of("transfer", TRANSFERS),
        help=f"between grids: {_names(TRANSFERS)}",
    )
    add = parser.add_argument_group("cost").add_argument
    add("--loss", type=_one_of("loss", LOSSES), default="squared", help=" | ".join(LOSSES))
    add("--terminal", type=_number(False), default=1.0, metavar="A", help="weight of E(x(T)) [1.0]")
    add("--tracking", type=_number(False), default=0.0, metavar="B", help="of Int E dt [0.0]")
    add("--weight-decay", type=_number(False), default=1e-2, metavar="LAMBDA", help="[1e-2]")
    add("--penalty", type=_one_of("penalty", PENALTIES), default="l2", help=" | ".join(PENALTIES))
    add("--bound", type=_number(True), metavar="U", help="|u_j| <= U [none]")
    add = parser.add_argument_group("solver").add_argument
    add("--starts", type=_integer(1), default=1, metavar="M", help="random starts [1]")
    add(
        "--method",
        type=_one_of("method", [method.value for method in Method]),
        default="auto",
        help=" | ".join(method.value for method in Method),
    )
    add("--tolerance", type=_tolerance, default=1e-8, metavar="EPS", help="[1e-8]")
    add("--max-iterations", type=_integer(1), default=10_000, metavar="N", help="[10000]")
    add("--time-limit", type=_number(True), metavar="SECONDS", help="[none]")
    add("--workers", type=_integer(1), metavar="N", help="processes for the starts [1]")
    add("--dask", type=_later, help=argparse.SUPPRESS)
    add = parser.add_argument_group("output").add_argument
    if keeps_folder:
        text = "one file per finished solve; the same command with the same DIR continues"
        add("--save", metavar="DIR", help=text)
        add("--plot", metavar="FIGURE", help=".png .pdf or .svg")
    else:
        add("--save", metavar="FILE.npz")
        add("--plot", metavar="FIGURE", help=".png .pdf .svg or .gif")
    _add_output(add)


def _add_crop(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE.npz")
    add("-o", "--output", required=True, metavar="SMALL.npz")
    add(
        "--error-tolerance",
        type=_number(False),
        metavar="EPS",
        help="how far E may be from that of the whole network [1e-3 of E at the start]",
    )
    add("--layers", type=_integer(1), metavar="K", help="layers to keep, instead of a tolerance")
    _add_output(add)


def _add_output(add: Callable[..., Any]) -> None:
    add("--json", action="store_true", help="one JSON object on standard output, nothing else")
    add("--quiet", action="store_true", help="no progress bar")


LATER_OPTIONS = ("dask",)
GRID_OPTIONS = ("widths", "grid", "domain", "transfer")

NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
COMMANDS = ("datasets", "solve", "interpolate", "sweep", "compare", "check", "show", "crop")


def parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the command line, and those of its commands."""
    top = Parser(
        prog="turnpike",
        description="Certified optima of neural-ODE and ResNet training problems.",
    )
    top.add_argument("--version", action="version", version=f"turnpike {versions()['turnpike']}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    made = {}
    for name, text in (
        ("datasets", "list the data sets that can be named"),
        ("solve", "minimise J on a data set"),
        ("interpolate", "find the minimal-norm interpolant of a data set"),
        ("sweep", "climb a ladder of horizons or weight decays, its rungs checked by each other"),
        ("compare", "compare a reference optimum with what PyTorch's optimisers come to"),
        ("check", "recompute the certificate of a saved solution from its file"),
        ("show", "draw a saved solution"),
        ("crop", "cut a saved network after the depth that its error needs"),
    ):
        made[name] = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    for name in ("solve", "interpolate", "sweep", "compare"):
        _add_problem(made[name])
    _add_ladder(made["sweep"])
    _add_comparison(made["compare"])
    made["sweep"].set_defaults(horizon=None, weight_decay=None)
    made["datasets"].add_argument("--json", action="store_true", help="as one JSON object")
    made["check"].add_argument("file", metavar="FILE.npz")
    _add_output(made["check"].add_argument)
    made["show"].add_argument("file", metavar="FILE.npz")
    made["show"].add_argument("-o", "--output", required=True, metavar="FIGURE")
    _add_crop(made["crop"])
    return top, made


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Arguments of a command; exits with code 2 and one line if they are wrong."""
    top, commands = parser()
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        top.error(f"expected a command: {', '.join(COMMANDS)}; see turnpike --help")
    command = words[0]
    words = _join_negative_numbers(words)
    if not command.startswith("-") and command not in COMMANDS:
        top.error(
            f"unknown command {command!r}{did_you_mean(command, list(COMMANDS))} "
            f"(choose from {', '.join(COMMANDS)})"
        )
    known, unknown = top.parse_known_args(words)
    if unknown or known.command is None:
        at = commands.get(command, top)
        word = unknown[0] if unknown else command
        at.error(f"unrecognized argument {word}{at.suggestion(word)}")
    if known.command == "sweep":
        _settle_ladder(known, commands["sweep"])
    return known


def _settle_ladder(options: argparse.Namespace, at: Parser) -> None:
    """One ladder, and the default of what it does not climb in."""
    if (options.horizons is None) == (options.weight_decays is None):
        given = "neither" if options.horizons is None else "both"
        at.error(f"expected --horizons LIST or --weight-decays LIST, got {given}")
    climbed, single = "horizons", "horizon"
    if options.horizons is None:
        climbed, single = "weight-decays", "weight-decay"
        if options.keep != "layers":
            at.error("--keep step is for --horizons; with --weight-decays the network stays")
    if getattr(options, single.replace("-", "_")) is not None:
        at.error(f"--{single} came with --{climbed}; leave one of them out")
    options.horizon = 1.0 if options.horizon is None else options.horizon
    options.weight_decay = 1e-2 if options.weight_decay is None else options.weight_decay


def _join_negative_numbers(words: list[str]) -> list[str]:
    """`--option -1e-2` as `--option=-1e-2`, which is not taken for another option."""
    joined: list[str] = []
    for word in words:
        previous = joined[-1] if joined else ""
        if NEGATIVE.fullmatch(word) and previous.startswith("--") and "=" not in previous:
            joined[-1] = f"{previous}={word}"
        else:
            joined.append(word)
    return joined
