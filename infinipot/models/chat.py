"""The texts around videos, questions and answers, read off a checkpoint's own chat template."""

from dataclasses import dataclass
from typing import Any

from infinipot.errors import ModelError

ANSWER = "x"  # stands for any answer, where all that matters is that a text follows one
_QUESTION, _ANSWER, _AGAIN = "<infinipot question>", "<infinipot answer>", "<infinipot again>"


class _RefusedError(Exception):
    """A template could not be rendered; the message says why."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A conversation about a video reads

        opening [video] before_question QUESTION after_question ANSWER
        reopening [video] before_question QUESTION after_question ANSWER ...

    and a question without new frames stands after `follow_up` in place of `reopening [video] before_question`.
    """

    opening: str
    before_question: str
    after_question: str
    reopening: str
    follow_up: str


def read_chat_format(
    processor: Any, placeholder: str, modality: str = "video", system: str | None = None
) -> ChatFormat:
    """Renders three short conversations and takes them apart.

    Args:
        processor: a transformers processor with a chat template.
        placeholder: what the template puts where a video, or a clip of sound, comes in.
        modality: what the template calls that: "video" or "audio".
        system: a system message; None for the template's own.

    Raises:
        ModelError: the template is missing, fails, takes no system message, or does not keep the order of what it is
            given.
    """
    head = [] if system is None else [_message("system", system)]
    first, reply = [*head, _message("user", _QUESTION, modality)], _message("assistant", _ANSWER)
    try:
        with_video = _render(processor, [*first, reply, _message("user", _AGAIN, modality)])
        without = _render(processor, [*first, reply, _message("user", _AGAIN)])
        opening, rest = with_video.split(placeholder, 1)
        before_question, rest = rest.split(_QUESTION, 1)
        _, rest = rest.split(_ANSWER, 1)
        reopening, rest = rest.split(placeholder, 1)
        # Not what stands ahead of an answer that was given, which may begin with what a model says itself: a space.
        after_question = _render(processor, first).split(_QUESTION, 1)[1]
        follow_up = without.split(_ANSWER, 1)[1].split(_AGAIN, 1)[0]
    except _RefusedError as error:
        if system is not None:
            raise ModelError(
                f"the checkpoint's chat template takes no system message ({error}): leave it out"
            ) from error
        raise ModelError(
            f"the checkpoint's chat template cannot be used for {modality} ({error}): put the chat_template.jinja that "
            "it came with beside its weights"
        ) from error
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"the checkpoint's chat template cannot be used for {modality}: it leaves out a part of a conversation, or "
            "changes the order"
        ) from error
    if system is not None and system.strip() not in opening:
        raise ModelError("the checkpoint's chat template does not render a system message: leave it out")
    return ChatFormat(opening, before_question, after_question, reopening, follow_up)


def _message(role: str, text: str, *modalities: str) -> dict[str, Any]:
    content = [{"type": modality} for modality in modalities]
    return {"role": role, "content": [*content, {"type": "text", "text": text}]}


def _render(processor: Any, messages: list[dict[str, Any]]) -> str:
    """Renders messages, with thinking switched off where the template can: answers are short and the cap is hard."""
    options = {"tokenize": False, "add_generation_prompt": True}
    if "enable_thinking" in str(getattr(processor, "chat_template", None)):
        options["enable_thinking"] = False
    try:
        return str(processor.apply_chat_template(messages, **options))
    except Exception as error:  # a template is a program: it may raise anything, and does where it refuses a message
        line = str(error).strip().partition("\n")[0].rstrip(".")
        raise _RefusedError(line or type(error).__name__) from error
