# ---
# jupyter:
#   accelerator: GPU
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A text-to-image model of your own folder
#
# This notebook trains a small text-to-image model on a folder of your images, without captions. The images stay on
# this machine. Run the cells from top to bottom. On Colab, choose a GPU first (*Runtime*, *Change runtime type*): in
# ten minutes, a GPU learns much more than a CPU.

# %%
import importlib.util
import subprocess
import sys

# Before captionless is on PyPI: "captionless @ git+https://github.com/OWNER/captionless".
PACKAGE = "captionless"

if importlib.util.find_spec("captionless") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", PACKAGE], check=True)

# %% [markdown]
# ## 1. Your images
#
# `FOLDER` says where they are:
#
# - `"upload"` asks for a .zip file of your images (on Colab),
# - `"drive/MyDrive/photos"` is a folder in your Google Drive (on Colab, which asks for permission),
# - anything else is a folder of this machine.
#
# Sub-folders are welcome. Their names become prompts, and where no encoder at hand knows what the images show, the
# names of sub-folders and files are what the model learns its words from.

# %%
import os
import shutil
import zipfile
import zlib
from pathlib import Path

FOLDER = os.environ.get("FOLDER", "upload")

if FOLDER == "upload":
    from google.colab import files

    for name in files.upload():
        try:
            shutil.unpack_archive(name, "photos", "zip")
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: encrypted
            raise SystemExit(f"{name} cannot be unpacked ({error}). Upload a .zip file of your images.") from error
    FOLDER = "photos"
elif FOLDER.startswith("drive/"):
    from google.colab import drive

    drive.mount("drive")

# %%
# !{sys.executable} -m captionless info "{FOLDER}"

# %% [markdown]
# ## 2. Train
#
# The sample grid below grows sharper while the model learns. To stop earlier, interrupt the cell; to go on, run it
# again: it continues where it stopped. `MINUTES` is the total, so 20 after 10 trains ten minutes more.

# %%
from IPython.display import Image, display

import captionless
from captionless.progress import ProgressBar

MINUTES = float(os.environ.get("MINUTES", "10"))
MODEL = Path("model")


class ShowGrid(ProgressBar):
    """Shows the newest sample grid in place."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = display(display_id=True)

    def say(self, message: str) -> None:
        super().say(message)
        for grid in sorted(MODEL.glob("**/samples/*.png"), key=os.path.getmtime)[-1:]:
            self.shown.update(Image(grid.read_bytes()))


captionless.train(FOLDER, MODEL, minutes=MINUTES, resume=True, progress=ShowGrid())

# %% [markdown]
# ## 3. Try prompts
#
# A larger `guidance` follows the prompt more closely, a larger `variety` makes images of the same prompt differ more.
# The same prompt, seed and settings always give the same image.

# %%
generator = captionless.load(MODEL)
words = sorted({path.parent.name for path in Path(FOLDER).glob("*/**/*.*") if path.parent.name[0].isalpha()})
PROMPTS = [f"a photo of a {word}" for word in words[:4]] or ["a photo"]  # write your own here

captionless.sample_grid(generator.generate(PROMPTS, n=4, seed=0, guidance=3, variety=0.35))

# %% [markdown]
# ## 4. Keep it
#
# This writes a folder with the model, its card, example images and credits. It is what the Hugging Face Hub expects,
# and what `captionless generate --model` takes on any computer. On Colab it is offered as a download.

# %%
from captionless.exports import export

names = ("my-model", *(f"my-model-{i}" for i in range(2, 1000)))
OUT = next(name for name in names if not Path(name).exists())  # a new one each time
export(MODEL, to="hub", out=OUT, prompts=PROMPTS)
shutil.make_archive(OUT, "zip", OUT)
if "google.colab" in sys.modules:
    from google.colab import files

    files.download(f"{OUT}.zip")

# %% [markdown]
# To put it on the Hub, write the name of the repository. It is created for you alone; `public=True` shows it to
# everyone.

# %%
REPOSITORY = ""  # such as "your-name/my-model"

if REPOSITORY:
    from huggingface_hub import notebook_login

    notebook_login()

# %%
if REPOSITORY:
    print(*export(MODEL, to="hub", push=REPOSITORY, prompts=PROMPTS))
