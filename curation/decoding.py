"""What damaged pictures make decoders raise. Bytes that nobody has checked are decoded in a disposable child
(`curation/image`); this is for those that were, where two decoders may disagree, and for tars of others in training.
"""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DECODE_ERRORS = (
    *(OSError, EOFError, ValueError, IndexError, TypeError, AttributeError, AssertionError, SyntaxError, RuntimeError),
    *(KeyError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""Of Pillow and simplejpeg; OpenCV raises its own `cv2.error`."""
