"""The JSON of requests and responses, made from the values of ``careca.types`` and ``careca_client``.

Times in a recording are seconds; timestamps are seconds since 1970. Does no input or output.
"""
