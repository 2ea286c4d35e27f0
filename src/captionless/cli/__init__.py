"""The command line, with one thin module per command that parses options, shows progress and prints results."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from captionless.cli.autoencoder import autoencoder
from captionless.cli.console import lost_results, open_streams, print_remark, print_result
from captionless.cli.crash import explain
from captionless.cli.embed import embed
from captionless.cli.encoder import encoder
from captionless.cli.evaluate import evaluate
from captionless.cli.export import export
from captionless.cli.generate import generate
from captionless.cli.info import info
from captionless.cli.options import add_command
from captionless.cli.serve import serve
from captionless.cli.train import train
from captionless.errors import CaptionlessError
from captionless.signals import interrupt_on_termination

app = typer.Typer(
    name="captionless",
    help="Train a small text-to-image diffusion model on a folder of images, without captions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (generate, train, serve, evaluate, export, embed, encoder, autoencoder, info):
    add_command(app, command)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        import captionless

        print_result(captionless.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line.

    The exit code is 0 on success, 1 if a model fails ``evaluate --pass``, 2 for invalid input (with a one-line
    message), 70 for a bug (with a line that names the file of its traceback) and 130 after an interrupt.
    """
    open_streams()
    interrupt_on_termination()
    message, code = "", 2
    try:
        code = app(prog_name="captionless", standalone_mode=False) or 0
    except CaptionlessError as error:
        message = str(error)
    except TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "captionless"
        message = message and f"{message}{'' if message.endswith(('.', '?')) else '.'} See {command} --help."
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        message, code = explain(error)
    if not message and (message := lost_results()):
        code = code or 2
    if message:
        print_remark(f"captionless: {message}")
    sys.exit(code)
