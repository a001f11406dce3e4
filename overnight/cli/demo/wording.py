"""How the demo asks. Apart from the task, so that the responder need not load the library to read the question."""

SYSTEM = "You judge the sentiment of single sentences from product reviews."

_QUESTION = """\
How does the writer of this sentence feel about the product? Also say how sure you are, from 0 to 1, and which words \
of the sentence decided it.

Sentence: """


def question(text: str) -> str:
    """The prompt for one snippet."""
    return _QUESTION + text


def asked_about(prompt: str) -> str:
    """The snippet that a prompt asks about."""
    return prompt.removeprefix(_QUESTION)
