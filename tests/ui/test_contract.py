"""The contract with the browser: plain JSON, and current types for the JavaScript."""

from dataclasses import asdict, dataclass

from modelforge.errors import ConfigError, Problem
from scripts import js_types
from ui import contract
from ui.contract import (
    ChartData,
    ChartSeries,
    CompareReply,
    ProgressLine,
    Reply,
    error_text,
    json_line,
)
from ui.html.gradio_page import as_server_function
from ui.html.markup import el


def test_a_reply_becomes_plain_json():
    series = ChartSeries("training", [1, 2], [0.5, 0.25])
    chart = ChartData("Loss", "Loss: falls.", [series])
    reply = CompareReply(parts={"head": el("b", "<x>")}, charts={"loss": chart})
    sent = as_server_function(lambda _request: reply)({})
    assert sent["parts"] == {"head": "<b>&lt;x&gt;</b>"}
    assert type(sent["parts"]["head"]) is str
    assert sent["charts"]["loss"]["series"][0]["y"] == [0.5, 0.25]


def test_a_line_of_a_stream_is_one_line():
    line = json_line(ProgressLine(progress="1\n2"))
    assert line.endswith("\n")
    assert line.count("\n") == 1


def test_an_error_names_its_first_problem_and_the_number_of_others():
    error = ConfigError([Problem("lora_r", "9 is wrong.", "Give 8."), Problem("seed", "No.")])
    assert error_text(error).endswith("Give 8. (1 more)")


def test_an_error_of_a_server_function_becomes_a_toast():
    def fail(_request):
        raise ConfigError(Problem("lora_r", "9 is wrong.", "Give 8."))

    reply = as_server_function(fail)({})
    assert reply["is_error"]
    assert "Give 8." in reply["toast"]
    assert as_server_function(lambda _request: Reply())({}) == asdict(Reply())


def test_the_types_of_the_javascript_are_current():
    assert js_types.TARGET.read_text("utf-8") == js_types.declarations()


def test_every_reply_has_a_type():
    types = js_types.declarations()
    assert contract.Reply in js_types.REPLIES
    assert all(f"interface {reply.__name__} " in types for reply in js_types.REPLIES)


def test_optional_and_nested_fields_have_types():
    @dataclass
    class Example:
        """An example."""

        name: str | None
        charts: dict[str, list[int]]

    drawn = js_types._interface(Example)
    assert "name: string | null;" in drawn
    assert "charts: Record<string, number[]>;" in drawn
