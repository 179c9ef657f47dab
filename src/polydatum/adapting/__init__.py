"""What every adapter would write again: for the authors of adapters, ours and yours.

Nothing here knows a framework. An adapter finds its `DataManager` with `find_manager`, and with `RequestRules.find` the
rules that make its contexts. It describes the request to ``ctx.meta`` with a `RequestFacts`, puts a `RequestDal` on the
framework's request class, answers a `ServiceError` with `answer_for`, and keeps a streamed body outside of the context
with `StreamedBody`. What it owes its users beyond that:

* one context per request, closed before the first byte of the answer, with the final status and, if one escaped or the
  framework made it a status of 400 or more, the exception;
* what `Context.close` raises is the answer: the response is dropped, the framework shows its 500 page;
* the exception that escaped is raised again, suppressed by a context middleware or not, unless it is answered.
"""

from polydatum.inspection import tree
from polydatum.messages import UserId, as_text
from polydatum.pinging import PING_TIMEOUT
from polydatum.retrying import is_transient
from polydatum.unwinding import RollbackRule

from .answers import (
    ServiceAnswer,
    admit_answer,
    answer_for,
    failures_logged,
    prefers_json,
    reason_phrase,
)
from .health import HealthAnswer, health_answer
from .managers import InvalidManagerError, ManagerNotFoundError, find_manager
from .requests import AdapterMissingError, Params, RequestDal, RequestFacts
from .rules import RULES, InvalidRuleError, RequestRules, find_rule
from .streaming import AsyncStreamedBody, StreamedBody

__all__ = [
    "PING_TIMEOUT",
    "RULES",
    "AdapterMissingError",
    "AsyncStreamedBody",
    "HealthAnswer",
    "InvalidManagerError",
    "InvalidRuleError",
    "ManagerNotFoundError",
    "Params",
    "RequestDal",
    "RequestFacts",
    "RequestRules",
    "RollbackRule",
    "ServiceAnswer",
    "StreamedBody",
    "UserId",
    "admit_answer",
    "answer_for",
    "as_text",
    "failures_logged",
    "find_manager",
    "find_rule",
    "health_answer",
    "is_transient",
    "prefers_json",
    "reason_phrase",
    "tree",
]
