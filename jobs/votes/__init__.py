"""People's judgements of clips: what is asked, how votes are kept, how well people agreed, what follows from it."""
