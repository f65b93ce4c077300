"""What both model services share: the engine and its process, the worker, the cached stage.

No model library is imported here.
"""
