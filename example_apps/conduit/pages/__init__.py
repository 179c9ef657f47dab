"""Pages to read Conduit: the newest articles, an article, a person. They do not depend on a web framework either.

`site.answer` turns a path and its parameters into a page; `starlette`, `flask` and `django` serve it in their hosts.
"""
