"""Write the samples `notices` (summarization) and `board` (question answering)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

SAMPLES = Path(__file__).resolve().parents[1] / "assets" / "samples"
SEED, COUNT, QUESTIONS = 7, 120, 2
EVENTS = {
    "flea market": "Neighbours sell what their attics no longer hold, from lamps to bicycles.",
    "choir evening": "The choir sings songs of the sea, and everybody may join in at the end.",
    "seed swap": "Gardeners bring seeds they have too many of and take home others.",
    "repair café": "Volunteers mend toasters, radios and torn jackets while you wait.",
    "film night": "An old comedy is shown, and the projector is as old as the film.",
    "blood donation": "Please eat well beforehand and bring your passport.",
    "bread baking": "The old oven is heated once more, and every guest takes home a loaf.",
    "chess evening": "Boards and clocks are there, and beginners are shown the first moves.",
    "lantern walk": "Children carry their lanterns through the lanes; there is soup afterwards.",
    "book sale": "The library parts with books that nobody has borrowed for years.",
    "first aid course": "A nurse shows what to do until the ambulance comes.",
    "harvest supper": "Long tables are set, and everyone brings a dish to share.",
    "swimming lesson": "The water is warm and the teacher patient; bring a towel.",
    "tree planting": "Forty young lime trees are waiting; boots and spades are welcome.",
    "quiz night": "Teams of four answer forty questions, and the losers wash the glasses.",
    "pottery class": "Clay is provided, and what you make is fired the week after.",
    "cycling tour": "The tour is thirty kilometres long, with a stop for cake halfway.",
    "open rehearsal": "The brass band lets you listen while it argues about the tempo.",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = ("9 am", "10 am", "11 am", "2 pm", "3 pm", "4 pm", "6 pm", "7 pm", "8 pm")
PLACES = (
    *("school yard", "town hall", "village green", "old mill", "church hall"),
    *("fire station", "library", "boathouse", "market square", "community garden"),
)
NAMES = (
    *("Ines Albrecht", "Tom Keller", "Maria Rossi", "Jonas Lind", "Aisha Rahman"),
    *("Peter Novak", "Clara Dubois", "Sam O'Neill", "Lena Fischer", "Omar Haddad"),
)
PRICES = ("3 euros", "5 euros", "8 euros", "12 euros")
OPENINGS = (
    "The association has decided at its last meeting that the {event} will be held after all.",
    "After a long winter the {event} is back.",
    "Many of you have asked, and now it is settled: the {event} takes place again.",
    "Good news for everyone who has waited for the {event}.",
    "Once a year the {event} brings the whole village together.",
)
WHENS = (
    "It begins on {day} at {time} in the {place}.",
    "Come to the {place} on {day}; it starts at {time}.",
    "We meet on {day} at {time}, and the place is the {place}.",
    "This time it is in the {place}, on {day} at {time}.",
)
COSTS = (
    "Admission is {price}.",
    "It costs {price} to take part.",
    "A ticket costs {price} at the door.",
    "Each guest pays {price}.",
)
CONTACTS = (
    "Questions are answered by {name}.",
    "{name} takes the registrations.",
    "Please tell {name} if you want to come.",
    "{name} is looking for two more helpers.",
)
FREE = 0.3


class Notice(NamedTuple):
    """A notice and its facts. A free event has no price."""

    text: str
    event: str
    day: str
    time: str
    place: str
    name: str
    price: str | None


def notices() -> list[Notice]:
    """Return the notices. Event, day and place are unique."""
    rng = random.Random(SEED)
    by_key: dict[tuple[str, str, str], Notice] = {}
    while len(by_key) < COUNT:
        notice = _notice(rng)
        by_key.setdefault((notice.event, notice.day, notice.place), notice)
    return list(by_key.values())


def _notice(rng: random.Random) -> Notice:
    event, about = rng.choice(list(EVENTS.items()))
    facts: dict[str, Any] = {
        "event": event,
        "day": rng.choice(DAYS),
        "time": rng.choice(TIMES),
        "place": rng.choice(PLACES),
        "name": rng.choice(NAMES),
        "price": rng.choice(PRICES) if rng.random() >= FREE else None,
    }
    middle = [about, rng.choice(WHENS)]
    rng.shuffle(middle)
    costs = [rng.choice(COSTS)] if facts["price"] else []
    parts = [rng.choice(OPENINGS), *middle, *costs, rng.choice(CONTACTS)]
    return Notice(text=" ".join(parts).format(**facts), **facts)


def summaries() -> str:
    """Return `notices.jsonl`: each notice with its event, day, time and place as summary."""
    return _lines(
        {
            "document": notice.text,
            "summary": f"{notice.event.capitalize()}: {notice.day}, {notice.time}, {notice.place}.",
        }
        for notice in notices()
    )


def questions() -> str:
    """Return `board.jsonl`: questions about notices. Some have no answer."""
    rng = random.Random(SEED)
    rows = []
    for notice in notices():
        pairs = [
            (f"On which day is the {notice.event}?", notice.day),
            (f"When does the {notice.event} start?", notice.time),
            (f"Where is the {notice.event}?", notice.place),
            ("Who is named in the notice?", notice.name),
            (f"How much does the {notice.event} cost?", notice.price),
        ]
        rows += [_row(notice.text, *pair) for pair in rng.sample(pairs, QUESTIONS)]
    rng.shuffle(rows)
    return _lines(rows)


def _row(text: str, question: str, answer: str | None) -> dict[str, Any]:
    span = {"text": [answer], "answer_start": [text.index(answer)]} if answer else None
    return {
        "context": text,
        "question": question,
        "answers": span or {"text": [], "answer_start": []},
    }


def _lines(rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    (SAMPLES / "notices.jsonl").write_text(summaries(), encoding="utf-8")
    (SAMPLES / "board.jsonl").write_text(questions(), encoding="utf-8")
