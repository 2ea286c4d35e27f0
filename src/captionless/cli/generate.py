"""`captionless generate`: generate images from prompts."""

from __future__ import annotations

from captionless.cli.console import print_result, show_progress
from captionless.cli.threads import ThreadOptions
from captionless.config.generate_request import GenerateRequest
from captionless.config.sampling import SamplingConfig
from captionless.device import use_threads


def generate(request: GenerateRequest, sampling: SamplingConfig, threads: ThreadOptions) -> None:
    """Generate images from prompts, and print their paths.

    Writes numbered PNG files with their settings as metadata, manifest.jsonl and, for several images, a sample grid.
    """
    use_threads(threads.threads)
    with show_progress() as progress:
        from captionless.generation import ImageWriter, generate_into, load, read_request

        runs = read_request(request, sampling)
        writer = ImageWriter(request.out)
        generator = load(request.model, request.encoder)
        for path in generate_into(writer, generator, runs, request.guidance, progress):
            print_result(path)
