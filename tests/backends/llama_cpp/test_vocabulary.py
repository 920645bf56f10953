import pytest


@pytest.mark.parametrize(
    "text", ["", "Hello, world!", "Ünïcödé 🙂 日本語", "a\0b\n\t c", "x" * 5000, "<|im_end|>"]
)
def test_text_comes_back(vocabulary, text):
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens, special=True) == text
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text


def test_tokens_are_those_of_the_models_own_tokenizer(vocabulary, model_dir):
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    for text in (
        "Once upon a time, there was a girl named Mia.", "3 + 4 = 7\n\n\ttabs  and   spaces ",
        "<|im_start|>user\nHi<|im_end|>\n", "it's 10,000 & Ünïcödé 🙂 日本語", "<tool_call>{}",
    ):  # fmt: skip
        assert vocabulary.encode(text) == reference.encode(text, add_special_tokens=False).ids


def test_special_tokens_are_left_out_or_spelled(vocabulary):
    tokens = vocabulary.encode("<|im_start|>user<|im_end|>")
    assert vocabulary.decode(tokens, special=False) == "user"
    assert vocabulary.decode(tokens, special=True) == "<|im_start|>user<|im_end|>"


def test_half_a_character_is_not_text(vocabulary):
    tokens = vocabulary.encode("🙂")
    assert len(tokens) > 1
    assert vocabulary.decode(tokens[:1], special=False).endswith("\ufffd")
    with pytest.raises(UnicodeEncodeError):
        vocabulary.encode("\ud800")


def test_what_the_tokens_are_for(vocabulary):
    assert vocabulary.size == 2048
    assert {vocabulary.spelled(token) for token in vocabulary.ends} >= {"<|im_end|>"}
    assert "<tool_call>" in vocabulary.named
    assert "<tool_call>" not in vocabulary.special.values()
    assert vocabulary.spelled(-1) == ""


def test_the_first_token_stands_there_once(model, vocabulary):
    class AddsBos:
        def __getattr__(self, name):
            return getattr(model.library, name)

        def llama_vocab_get_add_bos(self, vocab):
            return True

    class Other:
        library, vocab = AddsBos(), model.vocab

    from backends.llama_cpp.vocabulary import Vocabulary

    adding = Vocabulary(Other())
    bos = model.library.llama_vocab_bos(model.vocab)
    tokens = vocabulary.encode("Hello")
    assert adding.encode("Hello") == [bos, *tokens]
    assert adding.encode(vocabulary.spelled(bos) + "Hello") == [bos, *tokens]
    assert adding.encode("") == [bos]
