"""The tunes: public-domain melodies as words, the small language model that writes more of them, how good they are."""
