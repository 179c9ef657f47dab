"""Conduit's hosts, wired by hand: three endpoints of each, as somebody careful writes them who has no Polydatum.

What is the same
================
The engine with its options, the tables, the queries, the schemas, the tokens, the JSON and how errors are answered. A
service finds all it uses in ``self._ctx``, so its methods, unchanged, also run on a `Work`: the session, the viewer and the
tokens, put together for one request and handed to the service when it is made. What is left of `polydatum.Service` is a base
class without a part in it.

The routers have as much to do: the other routes of a host stay in their places, though what they call does not work.

What differs
============
Only the wiring: when the session is made, how the services get it, where the commit is, who ends it, and how the user of
a token is found.

* Starlette, Django: ``with sessions() as db`` in the view.
* FastAPI: a session and a viewer, each by ``Depends``.
* Flask: a ``scoped_session`` that ``teardown_appcontext`` removes; the viewer by Flask-Login, as in the host.

A view that writes commits at its end, and one that reads does not. None of them does what Polydatum does besides: look at the
status of an answer, at a swallowed error, at a commit of unknown outcome.
"""
