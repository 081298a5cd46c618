"""Folders compared with folders: what is read, what belongs together, and the scores of both sides."""
