# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # captionless with CLIP, on images that are not flowers
#
# This notebook trains a small text-to-image model on each of three public folders of images, without captions, and
# measures how well it understands words through OpenAI's CLIP.
#
# To open it in Colab, choose *File > Upload notebook*, and then a GPU under *Runtime > Change runtime type*. It
# downloads 1.7 GB and then trains for `MINUTES` minutes per folder. If Colab stops it, run all cells again: it goes on
# where it was, as long as the machine is the same.
#
# First say where captionless is: the address of its repository, or a folder that you have uploaded.

# %%
import subprocess
import sys
from pathlib import Path

from IPython.display import Image, Markdown, display

SOURCE = "captionless"
MINUTES = 30

here = next((folder for folder in (Path(SOURCE), Path("../..")) if (folder / "recipes/clip").is_dir()), None)
if here is None:
    here = Path("captionless")
    subprocess.run(["git", "clone", "--depth", "1", SOURCE, str(here)], check=True)

# %% [markdown]
# Install it. Where PyTorch is older than 2.11, it is replaced, which takes some minutes.

# %%
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", str(here)], check=True)

# %% [markdown]
# Download, train and measure. Every line of figures appears as soon as it is known.

# %%
script = [sys.executable, "-u", str(here / "recipes/clip/measure.py"), "--out", "runs/clip", "--minutes", str(MINUTES)]
with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
    for line in process.stdout:
        print(line, end="", flush=True)
assert process.returncode == 0, "the measurement stopped: its last lines say why"

# %% [markdown]
# The table. *Recognised* is to be read beside the real held-out images, which are what the judge can recognise at all.

# %%
display(Markdown(Path("runs/clip/table.md").read_text(encoding="utf-8")))

# %% [markdown]
# What the models draw: a row for each prompt, the first four images at each variety, nothing left out.

# %%
for sheet in sorted(Path("runs/clip").glob("*.png")):
    display(Markdown(f"**{sheet.stem}**"), Image(filename=str(sheet)))
