"""Markup: text and attributes are escaped."""

from ui.html.markup import Markup, el, join, with_code


def test_text_is_escaped_and_elements_are_not():
    assert el("p", "<b>&", el("i", "x")) == "<p>&lt;b&gt;&amp;<i>x</i></p>"


def test_attributes_are_escaped_and_absent_ones_are_left_out():
    made = el("a.big", "x", href='"><b>', hidden=True, title=None, data_run="1", for_="f")
    assert made == '<a class="big" href="&#34;&gt;&lt;b&gt;" hidden data-run="1" for="f">x</a>'


def test_an_attribute_of_markup_is_escaped_too():
    assert el("i", title=el("b", "x")) == '<i title="&lt;b&gt;x&lt;/b&gt;"></i>'


def test_a_name_carries_classes_and_an_id():
    assert el("button.btn.go#start", "Go") == '<button class="btn go" id="start">Go</button>'
    assert el("span.chip", "x", class_="bad") == '<span class="chip bad">x</span>'


def test_nothing_and_lists_are_accepted_as_children():
    assert join([None, False, ["a", el("br")], 3]) == "a<br>3"


def test_joined_markup_stays_markup():
    inner = join(["<", Markup("<br>")])
    assert isinstance(inner, Markup)
    assert el("p", inner) == "<p>&lt;<br></p>"


def test_text_between_backticks_is_code_and_escaped():
    shown = with_code("Run `setup <x>`, not `this & <b>")
    assert shown == "Run <code>setup &lt;x&gt;</code>, not `this &amp; &lt;b&gt;"
    assert with_code(el("b", "`a`", title="`b`")) == '<b title="`b`">`a`</b>'
    assert with_code(["a", el("br")]) == "a<br>"
