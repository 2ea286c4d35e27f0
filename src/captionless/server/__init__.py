"""Serve models over HTTP, in the form of OpenAI's images API.

    captionless serve runs/mine

or, in another ASGI server, ``create_app(ImageService({"mine": captionless.load("runs/mine")}))``. It needs the extra
``serve`` (``pip install 'captionless[serve]'``).
"""

from captionless.server.app import create_app as create_app
from captionless.server.run import serve as serve
from captionless.server.service import ImageService as ImageService
