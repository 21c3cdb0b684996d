defmodule Emily.Generation do
  @moduledoc """
  Text from language models, token by token.

  A model is a function of its parameters, tokens of `{batch, length}` and a cache, which returns logits of
  `{batch, length, vocabulary}` and the cache after these tokens. Nothing else is known of it. The cache is an
  `Emily.Generation.Cache`, or any other container of the same shapes before and after.

  ## A whole model

  One block of a decoder as they are built today, with random weights:

  ```elixir
  defmodule Emily.Generation.Example do
    import Nx.Defn
    alias Emily.Fast
    alias Emily.Generation.Cache

    @heads 4

    defn forward(params, tokens, cache) do
      x = Nx.take(params.embedding, tokens)
      {seen, cache} = attend(Fast.rms_norm(x, params.norm), params, cache)
      x = x + seen
      x = x + think(Fast.rms_norm(x, params.norm), params)
      logits = Nx.dot(Fast.rms_norm(x, params.norm), [2], params.embedding, [1])
      {logits, Cache.advance(cache, Nx.axis_size(tokens, 1))}
    end

    # More blocks would have a number each for their layer of the cache, which is 0 here.
    defnp attend(x, params, cache) do
      position = Cache.positions(cache)
      query = x |> Nx.dot(params.query) |> split() |> Fast.rope(position)
      key = x |> Nx.dot(params.key) |> split() |> Fast.rope(position)
      value = x |> Nx.dot(params.value) |> split()
      {seen, cache} = Cache.attention(cache, 0, query, key, value)
      {seen |> Nx.transpose(axes: [0, 2, 1, 3]) |> Nx.reshape(Nx.shape(x)) |> Nx.dot(params.out), cache}
    end

    defnp think(x, params) do
      gate = Nx.dot(x, params.gate)
      Nx.dot(gate * Nx.sigmoid(gate) * Nx.dot(x, params.up), params.down)
    end

    deftransformp split(x) do
      {batch, length, size} = Nx.shape(x)

      x
      |> Nx.reshape({batch, length, @heads, div(size, @heads)})
      |> Nx.transpose(axes: [0, 2, 1, 3])
    end

    def params(size, vocabulary) do
      shapes = [
        embedding: {vocabulary, size},
        query: {size, size},
        key: {size, size},
        value: {size, size},
        out: {size, size},
        gate: {size, 2 * size},
        up: {size, 2 * size},
        down: {2 * size, size}
      ]

      {weights, _key} =
        Enum.map_reduce(shapes, Nx.Random.key(0), fn {name, shape}, key ->
          {weights, key} = Nx.Random.normal(key, 0.0, 0.3, shape: shape, type: :f32)
          {{name, weights}, key}
        end)

      weights |> Map.new() |> Map.put(:norm, Nx.broadcast(1.0, {size}))
    end
  end

  generation =
    Emily.Generation.new(
      &Emily.Generation.Example.forward/3,
      Emily.Generation.Example.params(32, 100),
      cache: [layers: 1, heads: 4, head_size: 8, type: :f32]
    )

  result = Emily.Generation.generate(generation, [3, 1, 4], max_tokens: 20)
  {result.reason, length(result.tokens)}
  #=> {:max_tokens, 20}
  ```

  The same text as a stream, and what follows after more of it was said; what was read of it is not read again:

  ```elixir
  stream = Emily.Generation.stream(generation, [3, 1, 4], max_tokens: 20)
  Enum.take(stream, 5) == Enum.take(result.tokens, 5)
  #=> true

  more = [3, 1, 4] ++ result.tokens ++ [1, 5, 9]
  answer = Emily.Generation.generate(generation, more, session: result.session, temperature: 0.7, top_p: 0.9)
  {answer.prompt_tokens, answer.reused_tokens}
  #=> {26, 22}
  ```

  And several texts at once, each of which ends for itself:

  ```elixir
  end_token = Enum.at(result.tokens, 3)
  batch = Emily.Generation.generate(generation, [[3, 1, 4], [5]], max_tokens: 8, end_tokens: end_token)
  {hd(batch.reason), hd(batch.tokens) == Enum.take_while(result.tokens, &(&1 != end_token))}
  #=> {:end_token, true}
  ```

  Tokens are numbers; texts are for a tokenizer. Bumblebee has these, and models: `Emily.Generation.Bumblebee`.

  ## The device never waits

  A step takes the tokens of the one before as they are on the device, and is given to the device before anybody
  reads these. So one step is always under way, while the process handles the token before. Who stops to read a stream, or
  is killed, has at most that one step computed for nothing.

  Only a prompt is waited for before its first step is begun, and what a draft took part in before it becomes a session.

  A step is compiled once for each size of the cache, and for the next size in a process of its own before the cache is full,
  unless there is a draft. Its cache is donated, so that new positions are written in place.

  ## Speculative decoding

  With a `:draft`, a smaller model of the same vocabulary, a step is a round (Leviathan et al., *Fast Inference from
  Transformers via Speculative Decoding*, 2023): the draft proposes some tokens, the model reads them all at once, and
  those are accepted that leave the text's probabilities what they are without a draft. One more token follows them, so that each
  round gives one at least. A greedy text is the same as without a draft, as far as the model gives the same logits for one
  token and for several; their last digits may differ.

  A round is one compiled function, and how many tokens it gave stays on the device for the next one. So the next round
  is under way before this one is read. The draft runs once more than it proposes tokens, for its cache to have them all.
  Both caches have to forget what was not accepted: rotating layers need as many spare positions as the draft proposes
  tokens, and `:trim` is required for other containers.
  """

  alias Emily.Generation.{Request, Result, Run, Session, Step, Store}

  @enforce_keys [:forward, :params, :vocabulary, :store, :prefill_chunk, :defn_options]
  defstruct [:forward, :params, :vocabulary, :store, :prefill_chunk, :defn_options]

  @type t :: %__MODULE__{
          forward: (Nx.Container.t(), Nx.Tensor.t(), Nx.Container.t() ->
                      {Nx.Tensor.t(), Nx.Container.t()}),
          params: Nx.Container.t(),
          vocabulary: pos_integer(),
          store: Store.t(),
          prefill_chunk: pos_integer(),
          defn_options: keyword()
        }

  @options [
    cache: nil,
    grow: nil,
    trim: nil,
    pad: nil,
    capacity: :infinity,
    prefill_chunk: 512,
    defn_options: [compiler: Emily.Compiler]
  ]

  @doc """
  A model that is to generate text.

  `params` are moved to where the compiler computes, if they are elsewhere.

  ## Options

    * `:cache` - the options of `Emily.Generation.Cache.new/1` but for `:batch`; or, for any other container, a function of
      the number of rows that makes an empty one. Required
    * `:prefill_chunk` - how many tokens of a prompt are read at a time; `512` when absent. What is left is read in powers of
      two, so that few functions are compiled whatever lengths prompts have
    * `:defn_options` - how to compile; `[compiler: Emily.Compiler]` when absent

  For a container of another kind, all of them optional:

    * `:capacity` - how many positions it has room for, or a function of the cache that says so; `:infinity` when absent
    * `:grow` - `grow.(cache, positions)` gives one with room for so many in all
    * `:trim` - `trim.(cache, count)` forgets the last `count`, an integer or a scalar tensor; also called in `defn`
    * `:pad` - `pad.(cache, padding)` hides as many of each row's first positions, a tensor with one number for each row

  Raises `ArgumentError` for options that do not fit, and for a function that does not return logits and a cache like the one
  it is given.
  """
  @spec new(function(), Nx.Container.t(), keyword()) :: t()
  def new(forward, params, options) do
    if not is_function(forward, 3),
      do: Request.refuse("a function of parameters, tokens and a cache", forward)

    options = Request.options!(options, @options)

    if not (is_integer(options.prefill_chunk) and options.prefill_chunk > 0),
      do: Request.refuse(":prefill_chunk to be a positive integer", options.prefill_chunk)

    if not Keyword.keyword?(options.defn_options),
      do: Request.refuse(":defn_options to be a keyword list", options.defn_options)

    backend = Nx.Defn.to_backend(options.defn_options)
    store = Store.new(options, backend)
    params = placed(params, backend)

    %__MODULE__{
      forward: forward,
      params: params,
      vocabulary: vocabulary(forward, params, store.new.(1)),
      store: store,
      prefill_chunk: options.prefill_chunk,
      defn_options: options.defn_options
    }
  end

  # What is elsewhere would be moved over in each step.
  defp placed(params, {backend, options}) do
    Nx.Defn.Composite.traverse(params, fn x ->
      x = Nx.to_tensor(x)
      if is_struct(x.data, backend), do: x, else: Nx.backend_copy(x, {backend, options})
    end)
  end

  # Tracing computes nothing.
  defp vocabulary(forward, params, cache) do
    trace = fn params, tokens, cache -> elem(Step.call(forward, params, tokens, cache), 0) end

    trace
    |> Nx.Defn.debug_expr_apply([params, Nx.template({1, 1}, :s32), cache])
    |> Nx.axis_size(2)
  end

  @doc """
  Reads a prompt, all but its last token, and returns the `Emily.Generation.Session` to go on from.

  With a `:session` what the prompt begins with is not read again.
  """
  @spec prefill(t(), term(), keyword()) :: Session.t()
  def prefill(%__MODULE__{} = generation, prompt, options \\ []) do
    {prompt, session} = Request.reading(generation, prompt, options)
    {session, _last, _reading} = Run.read(generation, prompt, session)
    %{session | owned?: false}
  end

  @doc """
  Continues a prompt, and returns an `Emily.Generation.Result` when all is there.

  A prompt is a list of tokens, or a list of such for a batch, or an integer tensor of one or two axes. Prompts of a batch may
  have different lengths. Each is continued as it would be alone.

  ## Options

    * `:max_tokens` - how many tokens at most, or `:infinity`; `256` when absent
    * `:end_tokens` - a token, or several, that ends a text. It is not part of the text
    * `:stop_sequences` - lists of tokens that end a text and are not part of it
    * `:stop_when` - a function of the text's tokens, the newest first, that says whether it ends with the newest
    * `:on_token` - a function that is called with each token, or with `{row, token}` where there is a batch
    * `:session` - an `Emily.Generation.Session`. What it has in common with the beginning of the prompt is not read again
    * `:log_probabilities` - whether the result is to have those of the tokens; `false` when absent
    * `:seed` - an integer that random numbers follow from
    * `:draft` - another generation, which proposes tokens, see [below](#module-speculative-decoding); for one prompt
    * `:draft_tokens` - how many tokens it proposes at a time; `4` when absent

  And those of `Emily.Generation.Sampler.new/1`. The likeliest token is taken each time unless `:temperature`, `:top_k`, `:top_p`
  or `:min_p` is given.
  """
  @spec generate(t(), term(), keyword()) :: Result.t()
  def generate(%__MODULE__{} = generation, prompt, options \\ []) do
    request = Request.new(generation, prompt, options)
    generation |> Run.start(request) |> finish()
  end

  defp finish(run) do
    if Run.done?(run) do
      Run.result(run)
    else
      {given, run} = Run.next(run)
      Run.tell(run, given)
      finish(run)
    end
  end

  @doc """
  Continues a prompt as an Elixir `Stream` of tokens, or of `{row, token}` for a batch.

  Options are those of `generate/3` but for `:on_token`. Nothing is computed before the stream is consumed, and at most one
  step after the last token that is taken. Each time it is consumed it begins anew.
  """
  @spec stream(t(), term(), keyword()) :: Enumerable.t()
  def stream(%__MODULE__{} = generation, prompt, options \\ []) do
    request = Request.new(generation, prompt, options, [:on_token])

    Stream.resource(
      fn -> Run.start(generation, request) end,
      fn run ->
        if Run.done?(run) do
          {:halt, run}
        else
          {given, run} = Run.next(run)
          {Run.shown(run, given), run}
        end
      end,
      &Run.stop/1
    )
  end
end
