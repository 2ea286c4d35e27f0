"""Upper limits of settings; what is larger is a mistake, and would not end or not fit into memory."""

MAX_SIZE = 8_192
"""Side of an image, in pixels."""
MAX_WIDTH = 16_384
"""Channels of the finest level of a network."""
MAX_LEVELS, MAX_MULTIPLIER, MAX_BLOCKS, MAX_PATCH = 16, 64, 100, 256
"""Levels of a network, multiples of its width in one, residual blocks in one, and side of the patches of its stem."""
MAX_CONDITION = 1_000_000
"""Length of condition vectors."""
MAX_SAMPLING_STEPS = 10_000
"""Denoising steps."""
MAX_BATCH = 100_000
"""Images per step, or per network call."""
MAX_SAMPLES = 1_000_000
"""Images to generate from one prompt, or to evaluate; lines of a file of prompts; files in a shard."""
MAX_COUNT = 10**12
"""Images seen in a training."""
MAX_MINUTES = 10**7
"""Minutes of a training; 19 years."""
MAX_PROMPT = 10_000
"""Characters of a prompt; encoders read some 300."""
MAX_UPLOAD = 1_000
"""Megabytes of a request to the server, which is held in memory."""
MAX_WORKERS = 1_024
"""Processes or threads of a command."""
