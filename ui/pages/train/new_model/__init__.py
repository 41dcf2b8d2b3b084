"""Training from nothing on the Train page: the dial, the text and the cards of the new model."""
