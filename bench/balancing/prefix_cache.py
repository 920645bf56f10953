"""KV blocks of running sequences stay; the others are kept for prompts to come, and go by last use.

The rules of vLLM's `KVCacheManager` and `BlockPool` (vllm/v1/core), kept for runs of tokens rather
than block by block, which comes to the same and is two orders of magnitude cheaper to simulate:

- a block is found only together with all blocks before it, so a prompt hits its longest cached
  prefix, in whole blocks, and at least its last token is computed;
- blocks are shared by all that run, and found as soon as they are scheduled to be computed;
- what nobody uses is kept until room is needed; the longest unused goes first, and of one prompt
  its end before its beginning.

It differs in two ways: room for the whole answer is taken at the start, so nobody is preempted;
and where two compute the same at the same time, one copy is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from bench.balancing.work import Work


class _Node:
    """The blocks of a run that are there: `blocks` of them, from its beginning."""

    __slots__ = ("blocks", "key", "users")

    def __init__(self, key: int) -> None:
        self.key = key
        self.blocks = 0
        self.users = 0


class Lease:
    """The blocks of one sequence, from its start to its end."""

    __slots__ = ("covered", "hit_tokens", "nodes", "parts", "private")

    def __init__(self, parts: list[tuple[int, int, int]], hit: int, private: int) -> None:
        self.parts = parts
        self.nodes: list[_Node] = []
        """Of the first parts, one each."""
        self.covered = hit
        """Its blocks that are in `nodes`, where others find them."""
        self.private = private
        """Its other blocks, filled or not."""
        self.hit_tokens = 0
        """Tokens of the prompt that need not be computed."""


class PrefixCache:
    """The KV memory of one engine: `capacity` blocks of `block_tokens` tokens."""

    def __init__(self, capacity: int, block_tokens: int = 16) -> None:
        self._capacity = capacity
        self._block = block_tokens
        self._nodes: dict[int, _Node] = {}
        self._idle: OrderedDict[int, _Node] = OrderedDict()
        self._idle_blocks = 0
        self._in_use = 0

    @property
    def usage(self) -> float:
        """The share of blocks that running sequences hold: vLLM's `kv_cache_usage_perc`."""
        return self._in_use / self._capacity

    def take(self, work: Work) -> Lease | None:
        """Blocks for all of `work`, with what is there of its prompt; None while there is no room.

        Raises `ValueError` where there never will be.
        """
        blocks = -(-work.tokens // self._block)
        if blocks > self._capacity:
            raise ValueError(f"{work.tokens} tokens do not fit into {self._capacity} blocks")
        found, hit = self._find(work)
        revived = sum(node.blocks for node in found if not node.users)
        if self._in_use + revived + blocks - hit > self._capacity:
            return None
        lease = Lease([*self._parts(work)], hit, blocks - hit)
        lease.hit_tokens = hit * self._block
        for node in found:
            self._use(lease, node)
        self._in_use += lease.private
        self._make_room()
        return lease

    def computed(self, lease: Lease, tokens: int) -> None:
        """The sequence's first `tokens` tokens are there: others may find their full blocks."""
        full = tokens // self._block
        if full <= lease.covered:
            return
        added = 0
        for index, (key, begin, end) in enumerate(lease.parts):
            if begin >= full:
                break
            if index == len(lease.nodes):
                self._use(lease, self._nodes.setdefault(key, _Node(key)))
            node = lease.nodes[index]
            more = max(0, min(end, full) - begin - node.blocks)
            node.blocks += more
            added += more
        moved = full - lease.covered
        lease.covered = full
        lease.private -= moved
        self._in_use -= moved - added  # what another one has computed meanwhile is there once
        self._make_room()

    def give_back(self, lease: Lease) -> None:
        """The sequence has ended."""
        self._in_use -= lease.private
        for node in reversed(lease.nodes):
            node.users -= 1
            if not node.users:
                self._in_use -= node.blocks
                self._idle[node.key] = node
                self._idle_blocks += node.blocks

    def _find(self, work: Work) -> tuple[list[_Node], int]:
        """The nodes of the longest cached prefix, and how many blocks of it may be used."""
        found: list[_Node] = []
        hit = 0
        most = (work.prompt_tokens - 1) // self._block
        for key, begin, end in self._parts(work):
            node = self._nodes.get(key)
            if node is None or begin >= most:
                break
            found.append(node)
            hit = begin + node.blocks
            if hit < end:
                break
        return found, min(hit, most)

    def _parts(self, work: Work) -> Iterator[tuple[int, int, int]]:
        """The key, first block and end of each run. A block over two runs is the later one's."""
        begin = 0
        for run in work.runs:
            end = run.end // self._block
            if end > begin:
                yield run.key, begin, end
            begin = end

    def _use(self, lease: Lease, node: _Node) -> None:
        lease.nodes.append(node)
        if not node.users and self._idle.pop(node.key, None) is not None:
            self._idle_blocks -= node.blocks
            self._in_use += node.blocks
        node.users += 1

    def _make_room(self) -> None:
        over = self._in_use + self._idle_blocks - self._capacity
        while over > 0 and self._idle:
            node = next(iter(self._idle.values()))
            gone = min(over, node.blocks)
            node.blocks -= gone
            self._idle_blocks -= gone
            over -= gone
            if not node.blocks:
                del self._idle[node.key]
                del self._nodes[node.key]
