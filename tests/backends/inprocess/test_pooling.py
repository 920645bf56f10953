import pytest

from backends.inprocess.pooling import chosen_pooling


@pytest.mark.parametrize(
    ("option", "said", "chosen"),
    [
        ("auto", None, "mean"),
        ("auto", "last", "last"),
        ("auto", "cls", "cls"),
        ("mean", "last", "mean"),
        ("cls", None, "cls"),
    ],
)
def test_what_routing_yaml_says_wins_over_what_the_model_says(option, said, chosen):
    assert chosen_pooling(option, said) == chosen
