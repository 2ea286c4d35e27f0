"""What is denoised: the pixels of images, or the latents that an autoencoder makes of them."""

from captionless.latents.space import PIXELS as PIXELS
from captionless.latents.space import LatentReference as LatentReference
from captionless.latents.space import LatentSpace as LatentSpace
from captionless.latents.space import Space as Space
from captionless.latents.space import open_space as open_space
