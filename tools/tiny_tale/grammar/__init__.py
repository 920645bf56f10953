"""What Tiny Tale knows, as a seeded generator of conversations. Pure: randomness is passed in.

Two rules make greedy answers the same on every engine. A question has one answer, word for word.
And a story has two choices only, of its hero and of the journey: the name in it prefers one of each
(three times in four), and everything else follows from them, so that the best next token stands
clear of the second best while sampling still finds other stories.
"""
