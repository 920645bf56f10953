import pytest

from backends.inprocess.schema_limits import too_costly


def patterns(count):
    return [{"type": "string", "pattern": f".*{at}.*"} for at in range(count)]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"multipleOf": 1_000_003}, "multipleOf"),
        ({"multipleOf": 1e5}, "multipleOf"),
        ({"properties": {"a": {"items": {"multipleOf": 99991}}}}, "multipleOf"),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, "multipleOf"),
        ({"allOf": patterns(9)}, "allOf"),
        (
            {"properties": {"a": {"allOf": [{"properties": {"b": p}} for p in patterns(9)]}}},
            "allOf",
        ),
        (
            {
                "$defs": {
                    f"d{at}": {"$ref": f"#/$defs/d{at + 1}", "pattern": f"{at}"} for at in range(9)
                }
            },
            "allOf",
        ),
        ({"patternProperties": {f"^k{at}": True for at in range(65)}}, "patternProperties"),
    ],
)
def test_what_would_take_too_long(schema, reason):
    assert reason in too_costly(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"multipleOf": 0.01},
        {"multipleOf": 1000},
        {"anyOf": patterns(40)},
        {"properties": {str(at): part for at, part in enumerate(patterns(40))}},
        {"allOf": patterns(3)},
        {"$ref": "#/$defs/a", "$defs": {"a": {"items": patterns(40)}}},
        {"properties": {"multipleOf": {"type": "string"}, "pattern": {"type": "string"}}},
        {"enum": [{"multipleOf": "much"}]},
    ],
)
def test_what_is_tried(schema):
    assert too_costly(schema) is None


def test_a_schema_of_any_depth():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"items": deep}
    assert too_costly(deep) is None
