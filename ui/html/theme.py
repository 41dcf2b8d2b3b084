"""The theme: our colours for every Gradio component, light and dark, with fonts of the system."""

from __future__ import annotations

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

FONT = ("Inter", "ui-sans-serif", "system-ui", "Segoe UI", "sans-serif")
MONO = ("ui-monospace", "JetBrains Mono", "Cascadia Code", "monospace")
EMBER = colors.Color(
    "#fff1e8", "#ffe3d1", "#ffc9a8", "#ffa873", "#ff8a4c", "#f06a25", "#d9480f", "#a63a0a",
    "#7f2d08", "#3a2418", "#24150c", name="ember",
)  # fmt: skip


def theme() -> Base:
    """Return the theme. The stylesheet holds the same colours as variables."""
    base = Base(
        primary_hue=EMBER,
        secondary_hue=EMBER,
        neutral_hue=colors.stone,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        font=list(FONT),
        font_mono=list(MONO),
    )
    return base.set(
        body_background_fill="#f6f6f4",
        body_background_fill_dark="#131417",
        body_text_color="#1d1f23",
        body_text_color_dark="#ececea",
        body_text_color_subdued="#5d6068",
        body_text_color_subdued_dark="#a7aab2",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1b1d21",
        background_fill_secondary="#f1f1ee",
        background_fill_secondary_dark="#17181c",
        border_color_primary="#e2e1dc",
        border_color_primary_dark="#2c2f36",
        block_background_fill="*background_fill_primary",
        block_border_width="0px",
        block_shadow="none",
        input_background_fill="*background_fill_primary",
        input_background_fill_dark="*background_fill_primary",
        button_primary_background_fill="#d9480f",
        button_primary_background_fill_dark="#ff8a4c",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#201008",
    )
