"""The web service: HTTP in front of a gateway, for browsers and for HTTP clients.

It has no models and no data except uploads in progress. It knows the gateway only through ``careca_client``.
"""
