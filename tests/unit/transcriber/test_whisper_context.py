"""The hotwords and the prompt for Whisper."""

from careca_transcriber.context import MAX_CONTEXT_TOKENS, Context, fit_context


def words(text):
    return len(text.replace(",", " ,").split())


def test_without_options_there_is_no_context():
    assert fit_context((), "", words) == Context(hotwords=None, prompt=None)
    assert fit_context((), "   ", words) == Context(hotwords=None, prompt=None)


def test_hotwords_are_joined_and_the_prompt_is_complete_if_they_fit():
    context = fit_context(("Careca", "New Jersey"), "A call about football.", words)

    assert context == Context(hotwords="Careca, New Jersey", prompt="A call about football.")


def test_of_too_many_hotwords_the_first_ones_are_used():
    context = fit_context([f"word{i}" for i in range(200)], "", words)

    assert context.hotwords.startswith("word0, word1")
    assert words(context.hotwords) <= MAX_CONTEXT_TOKENS
    assert words(context.hotwords) >= MAX_CONTEXT_TOKENS - 2


def test_of_a_prompt_that_is_too_long_the_end_is_used():
    context = fit_context(("alpha", "beta"), " ".join(map(str, range(1000))), words)

    assert context.hotwords == "alpha, beta"
    assert context.prompt.endswith("998 999")
    assert words(context.hotwords) + words(context.prompt) == MAX_CONTEXT_TOKENS
