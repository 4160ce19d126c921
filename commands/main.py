"""m4-balance: the command line's entry point."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module

from pydantic import ValidationError

from m4.catalogue import explain
from m4.errors import InputError

VERBS = {
    "demo": "the whole chain on pictures it draws, ending in a report",
    "run": "all stages of one settings file",
    "catalogue": "show what a catalogue or a built-in list holds, and check it",
    "embed": "embed the pictures of shards with a model, for fit-head and annotate",
    "fit-head": "fit a calibrated head on embeddings, for annotate",
    "validate": "find what is wrong with shards, and how to mend it",
    "annotate": "mark who and what is in each image-text pair",
    "evidence": "show what the marks rest on: terms, agreement, what is not known",
    "count": "count the distinct patterns of the annotations",
    "curve": "show what balancing costs over tolerances, rates and caps",
    "solve": "solve for the policy that balances them",
    "verify-policy": "recompute from the annotations what a policy states of itself",
    "drift": "find out whether a policy still balances newer annotations",
    "apply": "draw a manifest: how often each sample is used",
    "reshard": "write the drawn samples into new shards, byte for byte",
    "export": "hand a manifest on: DataComp, open_clip, webdataset, datasets, MosaicML",
    "import-subset": "make a manifest of the samples that a DataComp subset names",
    "train": "train a CLIP or SigLIP on the shards, as a manifest says",
    "receipt": "compare what a training run read with what its manifest planned",
    "evaluate": "measure a trained model's bias and quality",
    "debias": "repair a trained model instead: fit, apply, export and measure a method",
    "compare": "models and debiasing methods in one table, alone and together",
    "report": "write the HTML report of a run directory",
    "purge": "delete annotations and patterns, keep policy and manifest",
}


def usage() -> str:
    """The list of verbs."""
    verbs = "\n".join(f"  {verb:<14} {meaning}" for verb, meaning in VERBS.items())
    return (
        "usage: m4-balance VERB [options]\n\n"
        "Balances image-text data before training, and measures what that changes.\n\n"
        f"{verbs}\n\n`m4-balance VERB --help` lists a verb's options.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns 0, 1 where what was to be checked does not hold, or 2 for input that cannot be used,
    said in one sentence.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if given else 2
    verb, *rest = given
    if verb not in VERBS:
        print(f"error: no verb {verb!r}; one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    # Libraries warn through the root logger while they are imported (Beam of cloud clients).
    logging.getLogger().setLevel(logging.ERROR)
    try:
        command = import_module(f"commands.{verb.replace('-', '_')}").command
        return _understood(command, f"m4-balance {verb}", rest)() or 0
    except ValidationError as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _understood(
    command: Callable[..., int | None], prog: str, given: Sequence[str]
) -> Callable[[], int | None]:
    """The call of a verb that a command line asks for.

    Raises `ValidationError` where settings do not go together, which tyro would print as pydantic
    reports it; what else is wrong tyro says itself, and leaves by SystemExit.
    """
    import tyro

    @wraps(command)
    def later(*settings: object, **named: object) -> Callable[[], int | None]:
        return partial(command, *settings, **named)

    config = (
        tyro.conf.OmitArgPrefixes,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.CascadeSubcommandArgs,
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(later, prog=prog, args=given, config=config)
    except SystemExit as stop:
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, ValidationError):
            cause = cause.__context__
        if cause is not None:
            raise cause from None
        sys.stderr.write(said.getvalue())
        raise


if __name__ == "__main__":
    sys.exit(main())
