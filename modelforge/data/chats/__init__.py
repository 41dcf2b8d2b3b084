"""Chat exports of WhatsApp, Telegram, Discord and Slack, read as conversations."""
