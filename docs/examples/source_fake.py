"""A source for your own tests: three pictures, of which one is smeared, then the camera is unplugged."""

import numpy as np

from edge_sdk.errors import BadFrameError, SourceError
from edge_sdk.testing.fake_source import FakeSource

picture = np.zeros((480, 640, 3), np.uint8)
source = FakeSource([picture] * 4, fps=30, script={1: BadFrameError("smeared"), 3: SourceError("unplugged")})

while True:
    try:
        frame = source.read()
    except BadFrameError as error:
        print("skipped:", error)
    except SourceError as error:
        print("over:", error)
        break
    else:
        print("frame", frame.id if frame else None)
source.close()
