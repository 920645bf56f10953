"""Images through the whole gateway, with the real SDKs, into a small MLX model that sees.

Its weights are random: what it says means nothing, but depends on what it is shown.
"""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading

import openai
import pytest

from tests.support.engines import MODEL_DIR
from tests.support.gateway import GatewayProcess
from tests.support.pictures import data_url, part, plain, png, user

pytestmark = pytest.mark.slow

RED, BLUE = plain("red"), plain("blue")
CONTEXT = 300
GREEDY = {"temperature": 0}
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}


class Pictures(http.server.BaseHTTPRequestHandler):
    """Serves one picture, and a redirect away."""

    def do_GET(self):
        moved = self.path == "/moved.png"
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("location", "http://127.0.0.1:1/elsewhere.png")
        self.send_header("content-length", "0" if moved else str(len(RED)))
        self.end_headers()
        if not moved:
            self.wfile.write(RED)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def far():
    """Where pictures can be fetched."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module", params=["thread", "process"])
def seeing(request, children, tmp_path_factory, far):
    """A gateway with a model that sees, and one that does not."""
    from tests.support.vision_model import make_vision_model

    folder = tmp_path_factory.mktemp("seeing")
    images = {"max_per_request": 4, "fetch_from": [far]}
    eyes = {"use": "mlx", "model": str(make_vision_model("idefics3", folder / "eyes"))}
    limits = {"images": images, "context": CONTEXT, "isolation": request.param}
    text = {"use": "mlx", "model": str(MODEL_DIR), "isolation": request.param}
    document = {
        "backends": {"eyes": {**eyes, **limits}, "plain": text},
        "models": {
            "eyes": {"backend": "eyes"},
            "tale": {"backend": "plain"},
            "either": {
                "variants": {
                    "stable": {"backend": "plain", "weight": 100},
                    "seeing": {"backend": "eyes", "weight": 1},
                }
            },
        },
    }
    gateway = GatewayProcess(children, folder / "gateway", json.dumps(document))
    gateway.wait_ready()
    for model in document["models"]:
        gateway.wait_model(model, timeout=60)
    return gateway


@pytest.fixture(scope="module")
def client(seeing):
    with seeing.openai() as one:
        yield one


def ask(client, *content, model="eyes", **options):
    options = {"temperature": 0, "max_tokens": 8, **options}
    return client.chat.completions.create(model=model, messages=[user(*content)], **options)


def said(answer):
    return answer.choices[0].message.content


def refused(client, *content, **options):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, *content, **options)
    return caught.value


def test_what_is_shown_decides_what_is_said(client):
    red, blue = ask(client, part(RED), "What?"), ask(client, part(BLUE), "What?")
    assert said(red) != said(blue)
    assert said(ask(client, part(RED), "What?")) == said(red)
    assert red.usage.prompt_tokens == blue.usage.prompt_tokens > 30


def test_a_stream_says_the_same(client):
    pieces = list(ask(client, part(RED), "What?", stream=True))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == said(ask(client, part(RED), "What?"))


def test_several_images_are_seen_in_their_order(client):
    both = ask(client, part(RED), "and", part(BLUE), "What?")
    turned = ask(client, part(BLUE), "and", part(RED), "What?")
    assert said(both) != said(turned)
    assert both.usage.prompt_tokens == turned.usage.prompt_tokens
    assert both.usage.prompt_tokens > ask(client, part(RED), "What?").usage.prompt_tokens + 20


def test_a_url_may_be_a_plain_text_and_an_image_a_tools_answer(client):
    shown = {"type": "image_url", "image_url": data_url(RED)}
    assert said(ask(client, shown, "What?")) == said(ask(client, part(RED), "What?"))
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

    def ask_with(picture):
        messages = [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": [part(picture)]},
        ]
        return client.chat.completions.create(
            model="eyes", messages=messages, temperature=0, max_tokens=8
        )

    assert said(ask_with(RED)) != said(ask_with(BLUE))


def test_a_turn_about_the_same_image_computes_only_itself(client):
    picture = plain("green")
    first = ask(client, part(picture), "What is it?")
    turns = [
        user(part(picture), "What is it?"),
        {"role": "assistant", "content": said(first)},
        user("And now?"),
    ]
    again = client.chat.completions.create(model="eyes", messages=turns, max_tokens=4)
    cached = again.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens - 1
    other = ask(client, part(plain("orange")), "What is it?")
    assert other.usage.prompt_tokens_details.cached_tokens < 20, "another picture is another prompt"


def test_responses_and_messages_show_images(seeing, client):
    def respond(picture):
        content = [
            {"type": "input_text", "text": "What?"},
            {"type": "input_image", "image_url": data_url(picture), "detail": "auto"},
        ]
        answer = client.responses.create(
            model="eyes",
            input=[{"role": "user", "content": content}],
            temperature=0,
            max_output_tokens=8,
        )
        assert answer.usage.input_tokens > 30
        return answer.output_text

    assert respond(RED) != respond(BLUE)
    source = {"type": "base64", "media_type": "image/png"}

    def block(picture):
        return {"type": "image", "source": {**source, "data": base64.b64encode(picture).decode()}}

    with seeing.anthropic() as anthropic:

        def tell(picture):
            content = [block(picture), {"type": "text", "text": "What?"}]
            answer = anthropic.messages.create(
                model="eyes",
                max_tokens=8,
                messages=[{"role": "user", "content": content}],
                extra_body=GREEDY,
            )
            return answer.content[0].text, answer.usage.input_tokens

        assert tell(RED)[0] != tell(BLUE)[0]
        counted = anthropic.messages.count_tokens(
            model="eyes",
            messages=[{"role": "user", "content": [block(RED), {"type": "text", "text": "What?"}]}],
        )
        assert counted.input_tokens == ask(client, part(RED), "What?").usage.prompt_tokens

        def after_tool(picture):
            result = {"type": "tool_result", "tool_use_id": "t", "content": [block(picture)]}
            call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
            turns = [("user", "Look."), ("assistant", [call]), ("user", [result])]
            answer = anthropic.messages.create(
                model="eyes",
                max_tokens=8,
                tools=[TOOL],
                extra_body=GREEDY,
                messages=[{"role": role, "content": content} for role, content in turns],
            )
            return answer.content[0].text

        assert after_tool(RED) != after_tool(BLUE)


def test_listed_hosts_are_asked_for_images_and_no_others(client, far):
    assert said(ask(client, part(f"http://{far}/a.png"), "What?")) == said(
        ask(client, part(RED), "What?")
    )
    for url in (f"http://{far}/moved.png", "http://169.254.169.254/", "file:///etc/passwd"):
        error = refused(client, part(url))
        assert error.code == "invalid_image_url"
        assert error.param == "messages[0].content[0].image_url"


def test_bad_images_are_refused_by_field_and_code(client):
    bad = {
        "invalid_base64_image": "data:image/png;base64,$$$$",
        "invalid_image_format": data_url(b"%PDF-1.7"),
        "image_parse_error": data_url(RED[: len(RED) // 2]),
        "empty_image_file": "data:image/png;base64,",
        "image_too_large": data_url(png(40_000, 40_000)),
        "invalid_image_url": "data:image/png,hello",
    }
    for code, url in bad.items():
        error = refused(client, "Look:", part(RED), part(url))
        assert error.code == code
        assert error.param == "messages[0].content[2].image_url"
        assert error.type == "invalid_request_error"
    assert refused(client, *[part(RED)] * 5).code == "array_above_max_length"


def test_what_does_not_fit_tells_both_numbers(client):
    error = refused(client, *[part(RED), part(BLUE)], "word " * 150)
    assert error.code == "context_length_exceeded"
    assert str(CONTEXT) in error.message


def test_a_model_of_text_says_so_and_a_variant_that_sees_is_asked(client):
    error = refused(client, part(RED), "What?", model="tale")
    assert (error.code, error.param) == ("unsupported", "messages")
    assert "takes text only" in error.message
    assert "eyes" in error.message, "the models that can"
    assert said(ask(client, part(RED), "What?", model="either")) == said(
        ask(client, part(RED), "What?")
    )


async def test_in_one_batch_with_text_nobody_is_harmed(seeing):
    """Those who look, those who do not, those who are refused, and those who leave."""
    async with seeing.async_openai() as client:

        async def one(*content, **options):
            answer = await client.chat.completions.create(
                model="eyes",
                messages=[user(*content)],
                **{"temperature": 0, "max_tokens": 40, **options},
            )
            return said(answer)

        text = await one("Tell me a story.")
        red = await one(part(RED), "What?")
        blue = await one(part(BLUE), "What?")

        async def leave(delay):
            asking = asyncio.create_task(one(part(plain(size=(800, 600))), "What?"))
            await asyncio.sleep(delay)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

        async def fail():
            with pytest.raises(openai.BadRequestError):
                await one(part(RED[:30]))

        answers = await asyncio.gather(
            *(one("Tell me a story.") for _ in range(3)),
            *(one(part(RED), "What?") for _ in range(3)),
            *(one(part(BLUE), "What?") for _ in range(3)),
            *(fail() for _ in range(2)),
            *(leave(delay) for delay in (0.0, 0.02, 0.1)),
        )
        assert answers[:9] == [text] * 3 + [red] * 3 + [blue] * 3
        assert await one(part(RED), "What?") == red
    seeing.child.wait_for(lambda: seeing.outstanding() == 0, 10, "something is still asked")
