import pytest

from modelforge.config.prompt_template import (
    PromptFormatError,
    has_placeholder,
    parse,
    render_parts,
)

ROW = {"system": "S", "instruction": "I", "input": "X", "output": "O"}


def test_the_four_names_are_filled_in_and_the_answer_is_apart():
    assert render_parts("{system}\n{instruction}: {input}\n### {output}<end>", ROW) == (
        "S\nI: X\n### ",
        "O<end>",
    )


def test_without_an_output_the_answer_follows():
    assert render_parts("Q {instruction} A ", ROW) == ("Q I A ", "O")


def test_doubled_braces_are_text():
    assert render_parts('{{"q": "{instruction}"}} {output}', ROW) == ('{"q": "I"} ', "O")


def test_what_a_row_says_is_never_read_as_a_format():
    row = ROW | {"instruction": "{output.__class__} {input} {0}"}
    assert render_parts("{instruction}", row)[0] == "{output.__class__} {input} {0}"


def test_a_format_lists_its_columns():
    assert has_placeholder("{system} {instruction}", "system")
    assert not has_placeholder("{{system}} {instruction}", "system")


REFUSED = {
    "{instruction} {answer}": "{answer} at line 1, column 15 is not a placeholder.",
    "a\n{instruction} {output.__class__}": "{output.__class__} at line 2, column 15",
    "{instruction!r}": "{instruction!r} at line 1, column 1",
    "{instruction:>99999999}": "is not a placeholder",
    "{instruction[0]}": "is not a placeholder",
    "{0} {instruction}": "{0} at line 1, column 1",
    "{} {instruction}": "{} at line 1, column 1",
    "{ instruction }": "is not a placeholder",
    "{instruction} {": "Unmatched '{' at line 1, column 15.",
    "{instruction} }\n": "Unmatched '}' at line 1, column 15.",
    "{instruction {input}}": "Unmatched '{' at line 1, column 1.",
    "not a placeholder": "{instruction} is missing.",
    "{instruction} {output} {output}": "{output} occurs twice.",
    "{instruction} {output} {input}": "{input} follows {output}",
}


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_in_braces_is_refused_with_its_place(text):
    with pytest.raises(PromptFormatError) as caught:
        parse(text)
    assert REFUSED[text] in caught.value.what
    assert caught.value.remedy.endswith(".")


def test_a_format_without_input_has_no_input():
    with pytest.raises(PromptFormatError, match="not a placeholder"):
        parse("{instruction} {input}", ("system", "instruction", "output"))
