"""Generate images from prompts in Python, or write them into a folder.

generator = load("runs/mine")
images = generator.generate(["a red rose", "a daisy"], n=4)
sample_grid(images).save("flowers.png")
"""

from captionless.generation.editing import Edit as Edit
from captionless.generation.generator import Generator as Generator
from captionless.generation.generator import load as load
from captionless.generation.grids import sample_grid as sample_grid
from captionless.generation.image import GeneratedImage as GeneratedImage
from captionless.generation.prompts import Prompt as Prompt
from captionless.generation.prompts import read_prompts as read_prompts
from captionless.generation.request import generate_into as generate_into
from captionless.generation.request import read_request as read_request
from captionless.generation.sample import sample_batches as sample_batches
from captionless.generation.sample import to_images as to_images
from captionless.generation.stage import ImageStep as ImageStep
from captionless.generation.stage import Stage as Stage
from captionless.generation.trajectory import Trajectory as Trajectory
from captionless.generation.writer import ImageWriter as ImageWriter
