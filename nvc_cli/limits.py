"""What a decoder takes upon itself if nothing else is said."""

MAX_PIXELS = 8192 * 8192
"""Luma samples of a picture."""
