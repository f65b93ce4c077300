"""The gRPC servicers, and messages to values and back.

It translates and authorizes; it decides nothing about the work.
"""
