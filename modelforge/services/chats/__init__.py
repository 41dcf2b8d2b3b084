"""Chats: two models side by side, saved chats, votes, corrections, and questions that wait."""
