"""Videos: their frames read, written, and drawn on. Needs OpenCV (the extra ``opencv``).

Frames are ``uint8`` (H, W, 3) in the order red, green, blue.
"""

from __future__ import annotations

from npshapenet.video.errors import VideoError
from npshapenet.video.overlay import draw_faces
from npshapenet.video.reading import Frame, Video
from npshapenet.video.writing import VideoFile

__all__ = ["Frame", "Video", "VideoError", "VideoFile", "draw_faces"]
