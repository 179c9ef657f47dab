"""Conduit without a web framework: all of its rules, and what it keeps.

Begin with `articles`; `layer` puts the services together.
"""
