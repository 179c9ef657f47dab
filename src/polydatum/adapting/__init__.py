"""What all adapters need: for the authors of adapters, ours and yours.

Nothing here knows a framework. An adapter finds its `DataManager` with `find_manager`, and the rules for its contexts
with `RequestRules.find`. It describes the request to ``ctx.meta`` with a `RequestFacts`, puts a `RequestDal` on the
framework's request class, answers a `ServiceError` with `answer_for`, and keeps a streamed body outside of the context
with `StreamedBody`. Beyond that, it has to ensure:

* one context per request, closed before the first byte of the answer, with the final status and the exception, if one
  escaped or the framework turned it into a status of 400 or more;
* `check_head` or `check_raw_head` before that close: an answer that no server would send is an error while everything
  can still be rolled back;
* what `Context.close` raises is the answer: the response is dropped, the framework shows its 500 page;
* an exception that escaped is raised again unless it is answered, even if a context middleware suppressed it.
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
from .heads import UnsendableAnswerError, check_head, check_pieces, check_raw_head
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
    "UnsendableAnswerError",
    "UserId",
    "admit_answer",
    "answer_for",
    "as_text",
    "check_head",
    "check_pieces",
    "check_raw_head",
    "failures_logged",
    "find_manager",
    "find_rule",
    "health_answer",
    "is_transient",
    "prefers_json",
    "reason_phrase",
    "tree",
]
