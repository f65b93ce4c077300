"""What both model services share: the engine and its process, the worker, the cached stage.

Nothing here imports a model library.
"""
