"""The weight of the loss of each token, by the role and the weight of its message."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelforge.config.loss_weights import parse_role_weights
from modelforge.config.schema.data import Data
from modelforge.modeling.tokenize.render import RenderedChat

ANSWER, TEMPLATE = "assistant", "template"
# Position of a token that is not in the text of the template.
ADDED = -1


@dataclass(frozen=True)
class LossWeights:
    """How much the tokens of a role and of single messages weigh in the loss.

    Attributes:
        roles: Weight by role; roles that are not named have the weight of the setting `loss_on`.
        of_messages: Whether weights of messages other than 0 and 1 apply.
    """

    roles: Mapping[str, float] = field(default_factory=dict)
    of_messages: bool = False

    @classmethod
    def from_settings(cls, data: Data) -> LossWeights:
        """Return the weights of a run."""
        return cls(parse_role_weights(data.role_weights), data.message_weights)

    @property
    def is_active(self) -> bool:
        """Whether tokens may have another weight than 0 and 1."""
        return bool(self.roles) or self.of_messages

    def of_tokens(
        self,
        chat: RenderedChat,
        owners: Sequence[int],
        starts: Sequence[int],
        trained: frozenset[int],
    ) -> list[float]:
        """Return the weight of each token of a conversation; 0 where it is not trained.

        Args:
            chat: The conversation.
            owners: For each token the message that it answers, or -1.
            starts: For each token its first character in the text, or -1.
            trained: The messages that are trained, and -1 for everything between answers.
        """
        spans = other_messages(chat)
        firsts = [start for start, _, _ in spans]
        others = 1.0 if -1 in trained else 0.0
        weights = []
        for owner, start in zip(owners, starts, strict=True):
            if owner >= 0:
                weights.append(self._of_answer(chat, owner) if owner in trained else 0.0)
                continue
            index = bisect_right(firsts, start) - 1
            is_inside = index >= 0 and start < spans[index][1]
            role = spans[index][2] if is_inside else TEMPLATE
            weights.append(self.roles.get(role, others))
        return weights

    def _of_answer(self, chat: RenderedChat, message: int) -> float:
        weight = self.roles.get(ANSWER, 1.0)
        if self.of_messages:
            weight *= float(chat.messages[message].get("weight", 1.0))
        return weight


def other_messages(chat: RenderedChat) -> list[tuple[int, int, str]]:
    """Return start, end and role of the messages without answers, in the order of the text.

    A message whose text the template changes is not found, and counts as text of the template.
    """
    ends = {span.message: span.end for span in chat.spans}
    found, position = [], 0
    for index, message in enumerate(chat.messages):
        if message["role"] == ANSWER:
            position = max(position, ends.get(index, position))
            continue
        content = str(message.get("content") or "").strip()
        start = chat.text.find(content, position) if content else -1
        if start >= 0:
            position = start + len(content)
            found.append((start, position, message["role"]))
    return found
