"""Fields of OpenAI and vLLM that would change an answer, and that this server does not know: a client that sets one is
told so, rather than given another answer than it asked for. Values that change nothing are taken, since many clients
write all of their fields."""

from typing import Annotated, Any

from infinipot.serve.bodies import NO_TOOLS, TEXT_ALONE, Body, only

_ONE = only(1, otherwise="a request has one answer: leave it out, or send the request again with another seed")
_NO_LOGPROBS = only(False, 0, otherwise="no probabilities of tokens are given: leave it out")
_NO_PENALTY = only(0, otherwise="repetitions are made less likely by repetition_penalty alone: leave it out")
_NO_MIN_P = only(0, otherwise="tokens are chosen by temperature, top_p, top_k and repetition_penalty: leave it out")
_NO_BEAMS = only(False, otherwise="there is no beam search: leave it out")
_OWN_END = only(False, 0, otherwise="an answer ends where the model or stop ends it, or at max_tokens: leave it out")
_NO_IDS = only([], otherwise="give stop the texts at which the answer ends, and leave this out")
_NO_STOP_TEXT = only(False, otherwise="an answer is what stands before the text of stop: leave it out")
_ALL_TOKENS = only([], {}, otherwise="no tokens or words can be chosen or ruled out: leave it out")
_ANY_TEXT = only({}, [], "", otherwise="answers are text that nothing constrains: leave it out")


class Unsupported(Body):
    """Fields of a chat completion that must be left out, or have a value that changes nothing.

    Attributes:
        functions: what `tools` was called; best_of, guided_json and its like: of older versions of vLLM.
    """

    n: Annotated[Any, _ONE] = None
    best_of: Annotated[Any, _ONE] = None
    modalities: Annotated[Any, TEXT_ALONE] = None
    tools: Annotated[Any, NO_TOOLS] = None
    functions: Annotated[Any, NO_TOOLS] = None
    logprobs: Annotated[Any, _NO_LOGPROBS] = None
    top_logprobs: Annotated[Any, _NO_LOGPROBS] = None
    prompt_logprobs: Annotated[Any, _NO_LOGPROBS] = None
    presence_penalty: Annotated[Any, _NO_PENALTY] = None
    frequency_penalty: Annotated[Any, _NO_PENALTY] = None
    min_p: Annotated[Any, _NO_MIN_P] = None
    use_beam_search: Annotated[Any, _NO_BEAMS] = None
    min_tokens: Annotated[Any, _OWN_END] = None
    ignore_eos: Annotated[Any, _OWN_END] = None
    stop_token_ids: Annotated[Any, _NO_IDS] = None
    include_stop_str_in_output: Annotated[Any, _NO_STOP_TEXT] = None
    logit_bias: Annotated[Any, _ALL_TOKENS] = None
    allowed_token_ids: Annotated[Any, _ALL_TOKENS] = None
    bad_words: Annotated[Any, _ALL_TOKENS] = None
    structured_outputs: Annotated[Any, _ANY_TEXT] = None
    guided_json: Annotated[Any, _ANY_TEXT] = None
    guided_regex: Annotated[Any, _ANY_TEXT] = None
    guided_choice: Annotated[Any, _ANY_TEXT] = None
    guided_grammar: Annotated[Any, _ANY_TEXT] = None
