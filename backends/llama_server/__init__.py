"""llama.cpp's `llama-server`, over HTTP.

It takes any model name and answers with the one it has loaded. `/v1/embeddings` and
`/v1/rerank` answer 501 unless it was started with `--embeddings` or `--reranking`; that is
passed on. `/health` needs no key and says 503 while the model is loading.

It looks whether the caller has left after each piece of a stream, and otherwise only after a
second in which no request on the whole server had a result (`recv_with_timeout` in its
`server-queue.cpp`): on a busy server, perhaps never. Therefore it is always asked for a stream,
with a piece for each part of the prompt (`return_progress`). A request that has not been given a
slot yet has no pieces: it stays in the queue, and is dropped when its first part of a prompt
would be worked on.

- `backend`: the adapter
- `asking`: a request, made into one for a stream
- `one_usage`: one count of the tokens of several answers
- `overlooked`: what the engine overlooks, asked in another way or refused
- `prompt_progress`: what the client did not ask for, taken out of its stream
- `whole_answer`: for a client that wants no stream, the one answer, made from it
- `mistakes`: failures that are the client's to mend
"""
