"""OpenAI's audio API: its fields, responses, events and errors, made of one call of the gateway.

Everything here follows OpenAI's specification. What Careca can do beyond it has fields of its own. What OpenAI has and
Careca cannot do is refused by name. Nothing here knows another endpoint.
"""
