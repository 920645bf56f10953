"""A model that sees, held to what it claims.

It is not one of `ENGINES`: its weights are random, so it has nobody to agree with.
"""

from __future__ import annotations

import pytest
import pytest_asyncio

from backends.capabilities import Capability
from backends.options import MlxOptions
from gateway.conform.finding import Outcome
from gateway.conform.probes import try_capability
from tests.contract.conftest import opened

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["thread", "process"])
async def seeing(request, tmp_path_factory):
    from tests.support.vision_model import make_vision_model

    model = make_vision_model("qwen2_5_vl", tmp_path_factory.mktemp("models") / "eyes")
    async with opened("eyes", MlxOptions(model=str(model), isolation=request.param)) as target:
        yield target


async def test_once_it_is_loaded_it_is_certain_that_it_sees(seeing):
    assert Capability.IMAGES in seeing.backend.capabilities
    assert Capability.IMAGES not in seeing.backend.conditional


@pytest.mark.parametrize(
    "capability",
    [
        Capability.IMAGES,
        Capability.CHAT,
        Capability.COMPLETIONS,
        Capability.JSON_SCHEMA,
        Capability.LOGPROBS,
        Capability.FORCED_TOOLS,
        Capability.N,
        Capability.TOKEN_PROMPTS,
    ],
)
async def test_it_can_what_it_claims(seeing, capability):
    found = await try_capability(seeing, capability)
    assert found.outcome is Outcome.KEPT, found


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_one_that_hides_its_hidden_states_claims_no_embeddings(isolation, tmp_path):
    from tests.support.vision_model import make_vision_model

    model = make_vision_model("smolvlm", tmp_path / "eyes")
    options = MlxOptions(model=str(model), isolation=isolation)
    async with opened("eyes", options) as target:
        found = await try_capability(target, Capability.EMBEDDINGS)
        assert found.outcome is Outcome.ABSENT, found
