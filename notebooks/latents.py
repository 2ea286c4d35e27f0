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
# # Images of 256 x 256 pixels, in the latents of a small autoencoder
#
# This notebook trains a text-to-image model on photographs of cats and dogs, without captions. An autoencoder,
# [TAESD](https://huggingface.co/madebyollin/taesd) (MIT licence), turns each image into 32 x 32 x 4 latents, which a
# small network learns to denoise. Run the cells from top to bottom. On Colab, choose a GPU first (*Runtime*, *Change
# runtime type*).

# %%
import importlib.util
import subprocess
import sys

# Before captionless is on PyPI: "captionless[latents] @ git+https://github.com/OWNER/captionless".
PACKAGE = "captionless[latents]"

if importlib.util.find_spec("captionless") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", PACKAGE], check=True)

# %% [markdown]
# ## 1. Photographs
#
# The [Oxford-IIIT Pet Dataset](https://www.robots.ox.ac.uk/~vgg/data/pets/) (O. M. Parkhi, A. Vedaldi, A. Zisserman and
# C. V. Jawahar, "Cats and Dogs", CVPR 2012; licence CC BY-SA 4.0) has 7,390 photographs of 37 breeds, most of them
# larger than 256 pixels; 0.8 GB. If you share the weights, credit the data set and mind its licence.

# %%
import os
import tarfile
import urllib.request
from pathlib import Path

ADDRESS = "https://thor.robots.ox.ac.uk/~vgg/data/pets/images.tar.gz"
FOLDER = Path(os.environ.get("FOLDER", "pets"))

if not FOLDER.exists():
    urllib.request.urlretrieve(ADDRESS, "pets.tar.gz")
    partial = Path(f"{FOLDER}.partial")
    with tarfile.open("pets.tar.gz") as archive:
        archive.extractall(partial, filter="data")
    partial.rename(FOLDER)  # an interrupted cell leaves no folder that looks complete

# %% [markdown]
# ## 2. The ceiling
#
# No generated image can be better than what the autoencoder makes of a real one. Above are photographs, below their
# reconstructions.

# %%
import torch
from PIL import Image

import captionless
from captionless.data import crop_square, denormalise, normalise
from captionless.generation import to_images
from captionless.latents.autoencoder import load_autoencoder

AUTOENCODER = os.environ.get("AUTOENCODER", "madebyollin/taesd")
SIZE = int(os.environ.get("SIZE", "256"))

autoencoder = load_autoencoder(AUTOENCODER)
files = sorted(path for path in FOLDER.rglob("*") if path.suffix.lower() in (".jpg", ".png"))[::50][:6]
photos = [crop_square(Image.open(path).convert("RGB"), SIZE) for path in files]
pixels = torch.stack([torch.frombuffer(bytearray(photo.tobytes()), dtype=torch.uint8) for photo in photos])
pixels = pixels.reshape(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2)
decoded = autoencoder.decode(autoencoder.encode(normalise(pixels)))
captionless.sample_grid([photos, to_images(denormalise(decoded))], ["photographs", "reconstructions"], cell=SIZE // 2)

# %% [markdown]
# ## 3. Train
#
# To stop earlier, interrupt the cell; to go on, run it again: it continues where it stopped. `MINUTES` is the total.
# The encoder CLIP knows far more words than file names tell; it is downloaded (0.6 GB). `auto` would learn from names.

# %%
MINUTES = float(os.environ.get("MINUTES", "60"))
ENCODER = os.environ.get("ENCODER", "openai/clip-vit-base-patch32")
MODEL = Path("model")

captionless.train(
    FOLDER,
    MODEL,
    encoder=ENCODER,
    autoencoder=AUTOENCODER,
    include_autoencoder=True,
    size=SIZE,
    minutes=MINUTES,
    resume=True,
)

# %% [markdown]
# ## 4. Try prompts

# %%
generator = captionless.load(MODEL)
PROMPTS = ["a photo of a beagle", "a photo of a persian cat", "a photo of a pug"]  # write your own here

captionless.sample_grid(generator.generate(PROMPTS, n=4, seed=0, guidance=3, variety=0.35))

# %% [markdown]
# ## 5. Edit a photograph
#
# White parts of the mask are generated anew. All pixels outside them stay exactly as they are.

# %%
mask = Image.new("L", photos[0].size)
mask.paste(255, (SIZE // 4, SIZE // 4, 3 * SIZE // 4, 3 * SIZE // 4))
(edited,) = generator.generate(PROMPTS[0], edit=captionless.Edit(photos[0], mask=mask))
captionless.sample_grid([[photos[0], edited.image]], ["before and after"])

# %% [markdown]
# ## 6. Keep it
#
# This writes a folder for the Hugging Face Hub, with the model, its autoencoder and a card.

# %%
from captionless.exports import export

names = ("my-model", *(f"my-model-{i}" for i in range(2, 1000)))
OUT = next(name for name in names if not Path(name).exists())  # a new one each time
export(MODEL, to="hub", out=OUT, prompts=PROMPTS[:2])
