"""The local page: look at images, correct cells, train and go on. It calls what the commands call, no science inside.

workspace (the folder) → drafts (masks in work), pictures (tiles), queue (work in processes of its own) → server.
"""
