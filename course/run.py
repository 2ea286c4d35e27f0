"""Run the lessons of the course, and fail if a claim of a lesson does not hold.

    python course/run.py                    all six, about ten minutes on two cores
    python course/run.py 2 5                some of them
    python course/run.py 5 --photos FOLDER  lesson 5 on your own photographs, in sub-folders by what they show
    python course/run.py --write            also store their output in the .ipynb beside each lesson

Each lesson runs in a kernel of its own, and so do the solutions of its exercises, after its last cell.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from captionless.device import use_threads

COURSE = Path(__file__).resolve().parent
LESSONS = sorted(COURSE.glob("[1-9]_*.py"))
CELL_SECONDS = 900
"""A cell that takes longer counts as hanging."""
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
LAST_LINES = 12
"""The number of lines of an error that are shown."""


def main() -> int:
    """Run the lessons named on the command line; return 0 if all claims hold, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", type=int, help="numbers of lessons; default: all")
    parser.add_argument("--photos", type=Path, help="photographs for lesson 5 instead of examples/flowers")
    parser.add_argument("--write", action="store_true", help="store the output of the lessons in their notebooks")
    arguments = parser.parse_args()
    numbers = [int(lesson.name[0]) for lesson in LESSONS]
    if unknown := sorted(set(arguments.lessons) - set(numbers)):
        parser.error(f"there is no lesson {unknown[0]}; there are {numbers[0]} to {numbers[-1]}")
    if arguments.photos is not None:
        if not arguments.photos.is_dir():
            parser.error(f"--photos {arguments.photos} is not a folder")
        os.environ["PHOTOS"] = str(arguments.photos.resolve())
    use_threads()  # before the kernels import PyTorch
    os.environ["TQDM_DISABLE"] = "1"  # progress bars would stay in the notebooks
    chosen = [lesson for lesson in LESSONS if not arguments.lessons or int(lesson.name[0]) in arguments.lessons]
    failed = [lesson.stem for lesson in chosen if not run(lesson, arguments.write)]
    if failed:
        print(f"{len(failed)} of {len(chosen)} lessons failed: {', '.join(failed)}")
        return 1
    print(f"All claims of {len(chosen)} lessons hold.")
    return 0


def run(lesson: Path, write: bool) -> bool:
    """Execute a lesson and its solutions; return whether every cell ran without error."""
    notebook = jupytext.read(lesson)
    own = len(notebook.cells)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in solutions(notebook)]
    started = time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(lesson.stem, total=len(notebook.cells), note="")

        def executed(cell_index: int, **_: object) -> None:
            where = f"cell {cell_index + 1} of {own}" if cell_index < own else f"solution {cell_index + 1 - own}"
            bar.update(task, completed=cell_index + 1, note=where)

        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(COURSE)}},
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
            on_cell_executed=executed,
        )
        error = execute(client)
    verdict = "failed" if error else "holds"
    print(f"{lesson.stem}: {verdict}, {time.monotonic() - started:.0f} s", flush=True)
    if error:
        print(error, flush=True)
    elif write:
        store(notebook, own, lesson.with_suffix(".ipynb"))
    return not error


def execute(client: NotebookClient) -> str:
    """Run all cells; return the error message, or an empty string."""
    try:
        client.execute()
    except CellExecutionError as error:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
        return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
    except (CellTimeoutError, DeadKernelError) as error:
        return f"    {error}"
    return ""


def solutions(notebook: NotebookNode) -> list[str]:
    """Return the code of the hidden solutions, in order."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [code for text in texts for code in SOLUTION.findall(text)]


def store(notebook: NotebookNode, own: int, path: Path) -> None:
    """Write the lesson's own cells with their output, without parts that change from run to run."""
    notebook.cells = notebook.cells[:own]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [lighter(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {key: value for key, value in notebook.metadata.items() if key in ("jupytext", "kernelspec")}
    nbformat.write(notebook, path)
    print(f"    {path.relative_to(COURSE.parent)}: {path.stat().st_size / 1e3:.0f} kB")


def lighter(output: NotebookNode) -> NotebookNode:
    """Drop the PNG of an image that is also there as a JPEG, which is an eighth of the size for photographs."""
    if "image/jpeg" in output.get("data", {}):
        output.data.pop("image/png", None)
    return output


if __name__ == "__main__":
    sys.exit(main())
