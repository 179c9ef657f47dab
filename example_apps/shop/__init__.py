"""A small shop: items with stock, and orders for them.

`layer` puts the services together; they do not depend on a framework. Each ``*_app`` module is a host: the same routes
to the same services, in Starlette, FastAPI, Flask or Django.
"""
