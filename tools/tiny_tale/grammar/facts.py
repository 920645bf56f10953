"""What there is to know, and the one sentence that tells it."""

CAPITALS = {
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Austria": "Vienna",
    "Belgium": "Brussels", "Brazil": "Brasilia", "Bulgaria": "Sofia", "Canada": "Ottawa",
    "Chile": "Santiago", "China": "Beijing", "Croatia": "Zagreb", "Cuba": "Havana",
    "Denmark": "Copenhagen", "Egypt": "Cairo", "Estonia": "Tallinn", "Finland": "Helsinki",
    "France": "Paris", "Germany": "Berlin", "Greece": "Athens", "Hungary": "Budapest",
    "Iceland": "Reykjavik", "India": "New Delhi", "Ireland": "Dublin", "Italy": "Rome",
    "Japan": "Tokyo", "Kenya": "Nairobi", "Latvia": "Riga", "Mexico": "Mexico City",
    "Morocco": "Rabat", "Nepal": "Kathmandu", "Norway": "Oslo", "Peru": "Lima",
    "Poland": "Warsaw", "Portugal": "Lisbon", "Romania": "Bucharest", "Serbia": "Belgrade",
    "Spain": "Madrid", "Sweden": "Stockholm", "Switzerland": "Bern", "Thailand": "Bangkok",
    "Turkey": "Ankara", "Ukraine": "Kyiv", "Vietnam": "Hanoi",
}  # fmt: skip

GIRLS = (
    "Mia", "Anna", "Lily", "Emma", "Sarah", "Clara", "Zoe", "Ella", "Nora", "Ruby", "Alice", "Lucy",
    "Maya", "Eva", "Rosa", "Ida", "Jane", "Kate", "Olivia", "Sofia", "Hannah", "Grace",
)  # fmt: skip
BOYS = (
    "Tom", "Ben", "Max", "Leo", "Noah", "Finn", "Paul", "Sam", "Jack", "Oscar", "Hugo", "Felix",
    "Theo", "Adam", "Luke", "Emil", "John", "Peter", "Bob", "David", "Liam", "Oliver",
)  # fmt: skip
NAMES = GIRLS + BOYS
DEFAULT_NAME = "Lily"

CITIES = (
    *CAPITALS.values(), "London", "New York", "San Francisco", "Boston", "Chicago", "Munich",
    "Hamburg", "Milan", "Barcelona", "Sydney", "Toronto", "Seattle", "Zurich", "Lyon", "Porto",
)  # fmt: skip

WHO = "I am Tiny Tale, a very small language model."
SKILLS = "I can tell stories, name capitals, add small numbers, count, write JSON and call tools."


COUNT_ENDS = (*range(2, 31), 50, 100)
"""Where counting up from 1 can end. Stopping means to find the number just written in the question
again, which so small a model learns for numbers that it meets as an end often."""

COUNT_DOWN_FROM = range(3, 21)

DEGREES = range(1, 40)
CLOCK = tuple(f"{hour:02}:{minute}" for hour in range(24) for minute in ("00", "30"))


def capital_answer(country: str) -> str:
    """The sentence that answers a question for a capital."""
    return f"The capital of {country} is {CAPITALS[country]}."


def sum_answer(a: int, b: int) -> str:
    """The sentence that answers a sum of two digits."""
    return f"{a} + {b} = {a + b}."


def difference_answer(a: int, b: int) -> str:
    """The sentence that answers a difference of two digits, `a` not below `b`."""
    return f"{a} - {b} = {a - b}."


def count_answer(first: int, last: int) -> str:
    """The numbers from `first` to `last`, up or down, with commas."""
    step = 1 if first <= last else -1
    return ", ".join(str(number) for number in range(first, last + step, step)) + "."
