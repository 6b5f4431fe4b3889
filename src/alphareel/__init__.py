"""alphareel removes the background of videos: a library, a command and a self-hosted HTTP service.

>>> import alphareel
>>> alphareel.cut("in.mp4", "out.webm", model="human")  # doctest: +SKIP
"""

__version__ = "0.1.0"
