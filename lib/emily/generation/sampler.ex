defmodule Emily.Generation.Sampler do
  @moduledoc """
  Chooses tokens from a language model's logits, on the device.

      sampler = Emily.Generation.Sampler.new(temperature: 0.7, top_p: 0.9)
      state = Emily.Generation.Sampler.init(sampler, prompt, seed: 42)

      # In defn, for each token.
      {tokens, state} = Emily.Generation.Sampler.sample(sampler, logits, state)

  A sampler holds no tensor. It may be an argument of functions of `Nx.Defn`, which compile once for each sampler, or be part
  of them. What changes from token to token, the random numbers' and which tokens came last, is in the state, a
  container. Each row of the batch is sampled for itself.

  ## Order

  First `:logit_bias` is added, then `:repetition_penalty` is applied, as mlx-lm and HuggingFace do both. With
  `:temperature` 0 the greatest logit wins, the first of several, and no more is computed.

  What else there is follows in the order of `:order`: when absent that of HuggingFace's `transformers`, where
  `:top_k`, `:top_p` and `:min_p` see what the temperature made of the probabilities. mlx-lm's is
  `[:top_p, :min_p, :top_k, :temperature]`. Each filter sees the probabilities that the ones before it left, which sum to one.
  Filters keep all tokens or none that are equally likely.

  ## Random numbers

  They are made of the state's key, which is one of `Nx.Random`, and of how many were drawn before, by a dozen
  operations on integers. Functions of `Nx.Random` take several hundred, which for a
  single number is more than a layer of a model has. Equal seeds give equal tokens on all backends, as far as these agree on the
  probabilities. Numbers and sums of probabilities have 24 binary digits, so what is less likely than 6.0e-8 may never be
  chosen.
  """

  import Nx.Defn, only: [deftransform: 2]

  alias Emily.Generation.Sampler.{Draft, Filter, Options, Random, Recent, State}

  @fields [
    :temperature,
    :top_k,
    :top_p,
    :min_p,
    :repetition_penalty,
    :repetition_window,
    :logit_bias,
    :order
  ]

  @derive {Nx.Container, containers: [], keep: @fields}
  @enforce_keys @fields
  defstruct @fields

  @typedoc "What to do to logits; nothing where a field is `nil`."
  @type t :: %__MODULE__{
          temperature: float(),
          top_k: pos_integer() | nil,
          top_p: float() | nil,
          min_p: float() | nil,
          repetition_penalty: float() | nil,
          repetition_window: pos_integer(),
          logit_bias: [{non_neg_integer(), float() | :neg_infinity}],
          order: [:temperature | :top_k | :top_p | :min_p]
        }

  @doc """
  A sampler.

  ## Options

    * `:temperature` - what logits are divided by: greater makes likely and unlikely tokens more alike, and 0 is greedy;
      `1.0` when absent
    * `:top_k` - leaves the so many likeliest tokens
    * `:top_p` - leaves the fewest likeliest tokens that have this probability together, above 0 and up to 1
    * `:min_p` - leaves tokens that are at least this many times as likely as the likeliest, from 0 to 1
    * `:repetition_penalty` - what logits of tokens that came lately are divided by, or multiplied with where they are
      negative; more than 1 makes repetition less likely
    * `:repetition_window` - how many of the last tokens these are, those of the prompt included; `64` when absent
    * `:logit_bias` - a map of tokens to numbers that are added to their logits; `:neg_infinity` forbids a token
    * `:order` - `:temperature`, `:top_k`, `:top_p` and `:min_p` as [they are to follow each other](#module-order)

  ## Examples

      iex> Emily.Generation.Sampler.new(temperature: 0).temperature
      0.0

      iex> Emily.Generation.Sampler.new(top_p: 1.5)
      ** (ArgumentError) expected :top_p to be a number above 0 and up to 1, got: 1.5
  """
  @spec new(keyword()) :: t()
  def new(opts \\ []), do: struct!(__MODULE__, Options.validate!(opts))

  @doc """
  The state to begin with, after `prompt`: integers of `{batch, positions}`, a tensor or lists. Called on the host.

  ## Options

    * `:seed` - an integer from 0 on that tokens follow from; when absent one is drawn from `:rand`
    * `:starts` - how many of each row's first positions are padding; none when absent

  ## Examples

      iex> sampler = Emily.Generation.Sampler.new(repetition_penalty: 1.1, repetition_window: 4)
      iex> state = Emily.Generation.Sampler.init(sampler, [[5, 6, 7], [0, 8, 9]], seed: 1, starts: [0, 1])
      iex> state.recent
      #Nx.Tensor<
        s32[2][4]
        [
          [-1, 5, 6, 7],
          [-1, -1, 8, 9]
        ]
      >
  """
  @spec init(t(), Nx.Tensor.t() | [[non_neg_integer()]], keyword()) :: State.t()
  def init(%__MODULE__{} = sampler, prompt, opts \\ []) do
    opts = Keyword.validate!(opts, [:seed, :starts])
    prompt = Options.prompt!(prompt)

    %State{
      key: Random.key(Options.seed!(opts[:seed])),
      drawn: Nx.tensor(0, type: :u32),
      recent: Recent.new(sampler, Options.padded(prompt, opts[:starts]))
    }
  end

  @doc """
  Chooses a token for each row of `logits`, `{batch, vocabulary}`. Works in `defn`.

  Returns the tokens, `{batch}` of `:s32`, and the next state, for which they are among the last tokens.

  ## Examples

      iex> sampler = Emily.Generation.Sampler.new(top_k: 1)
      iex> state = Emily.Generation.Sampler.init(sampler, [[0], [0]], seed: 3)
      iex> logits = Nx.tensor([[0.5, 2.0, 1.0], [3.0, 2.0, 1.0]])
      iex> {tokens, _state} = Emily.Generation.Sampler.sample(sampler, logits, state)
      iex> Nx.to_flat_list(tokens)
      [1, 0]
  """
  deftransform sample(%__MODULE__{} = sampler, logits, %State{} = state) do
    logits = Options.logits!(logits, 2, state)

    {tokens, state} =
      if greedy?(sampler) do
        {sampler |> processed(logits, state) |> Nx.argmax(axis: -1, type: :s32), state}
      else
        {numbers, state} = Random.uniform(state, {Nx.axis_size(logits, 0)})
        {sampler |> probabilities(logits, state) |> Draft.choose(numbers), state}
      end

    {tokens, observe(sampler, state, tokens)}
  end

  @doc """
  The probabilities that tokens are chosen with, after all filters, of `:f32`. Works in `defn`.

  `logits` are `{batch, vocabulary}`, or `{batch, positions, vocabulary}` for several positions. Then `tokens` of
  `{batch, positions - 1}` are those that came between them, which are needed for a repetition penalty only. A
  greedy sampler has probabilities of 0 and 1.

  ## Examples

      iex> sampler = Emily.Generation.Sampler.new(top_k: 2)
      iex> state = Emily.Generation.Sampler.init(sampler, [[0]], seed: 3)
      iex> probabilities = Emily.Generation.Sampler.probabilities(sampler, Nx.log(Nx.tensor([[1, 6, 3]])), state)
      iex> probabilities |> Nx.multiply(9) |> Nx.round() |> Nx.to_flat_list()
      [0.0, 6.0, 3.0]
  """
  deftransform probabilities(%__MODULE__{} = sampler, logits, %State{} = state, tokens \\ nil) do
    logits = Options.logits!(logits, [2, 3], state)
    logits = processed(sampler, logits, state, tokens)

    if greedy?(sampler),
      do: Draft.one_hot(Nx.argmax(logits, axis: -1, type: :s32), Nx.axis_size(logits, -1)),
      else: Filter.probabilities(sampler, logits)
  end

  @doc """
  Which of a draft's tokens are accepted, and the token that follows them. Works in `defn`.

  That is speculative sampling (Leviathan et al., *Fast Inference from Transformers via Speculative Decoding*, 2023): what
  comes of it is distributed as if each token had been sampled from the target's probabilities.

    * `target` - the target model's `probabilities/4`, `{batch, drafted + 1, vocabulary}`: before each token of the draft,
      and after the last
    * `draft` - those of the draft model, `{batch, drafted, vocabulary}`, or `nil` if the draft's tokens were not drawn but
      are sure, as those of a greedy draft are or those found in the prompt
    * `tokens` - the draft's tokens, `{batch, drafted}`

  Returns `{accepted, next, state}`, both of `{batch}` and `:s32`: how many of the first tokens are accepted, and the
  one that follows these. They are among the state's last tokens then.

  With a greedy sampler those tokens are accepted that have the target's greatest probability. Logits will do for `target` then,
  if nothing changes which one is the greatest, and `draft` does not matter.

  ## Examples

      iex> sampler = Emily.Generation.Sampler.new(temperature: 0)
      iex> state = Emily.Generation.Sampler.init(sampler, [[0]])
      iex> target = Nx.tensor([[[0, 1, 0], [0, 0, 1], [1, 0, 0]]])
      iex> {accepted, next, _state} = Emily.Generation.Sampler.accept(sampler, target, nil, Nx.tensor([[1, 1]]), state)
      iex> {Nx.to_flat_list(accepted), Nx.to_flat_list(next)}
      {[1], [2]}
  """
  deftransform accept(%__MODULE__{} = sampler, target, draft, tokens, %State{} = state) do
    {target, draft, tokens} = Options.draft!(target, draft, tokens)

    {accepted, next, state} =
      if greedy?(sampler) do
        {accepted, next} = Draft.greedy(target, tokens)
        {accepted, next, state}
      else
        {batch, drafted} = Nx.shape(tokens)
        {numbers, state} = Random.uniform(state, {batch, drafted + 1})
        {accepted, next} = Draft.accept(target, draft, tokens, numbers)
        {accepted, next, state}
      end

    {accepted, next, %{state | recent: Recent.accepted(state.recent, tokens, accepted, next)}}
  end

  @doc """
  Has the state know of tokens that came from elsewhere, `{batch}` or `{batch, positions}`. Works in `defn`.

  `sample/3` and `accept/5` do so for what they choose.
  """
  deftransform observe(%__MODULE__{}, %State{} = state, tokens) do
    %{state | recent: Recent.push(state.recent, Options.tokens!(tokens, state))}
  end

  @doc """
  The logarithms of the probabilities that `logits` themselves give `tokens`, of `:f32`. Works in `defn`.

  Tokens have the shape of the logits less the last axis. No filter and no temperature counts.

  ## Examples

      iex> logits = Nx.log(Nx.tensor([[1, 2, 1]]))
      iex> Emily.Generation.Sampler.log_probability(logits, Nx.tensor([1])) |> Nx.exp() |> Nx.multiply(10) |> Nx.round()
      #Nx.Tensor<
        f32[1]
        [5.0]
      >
  """
  deftransform log_probability(logits, tokens) do
    {logits, tokens} = Options.chosen!(logits, tokens)
    greatest = Nx.reduce_max(logits, axes: [-1], keep_axes: true)
    sum = logits |> Nx.subtract(greatest) |> Nx.exp() |> Nx.sum(axes: [-1]) |> Nx.log()

    logits
    |> Nx.take_along_axis(Nx.new_axis(tokens, -1), axis: -1)
    |> Nx.subtract(greatest)
    |> Nx.squeeze(axes: [-1])
    |> Nx.subtract(sum)
  end

  defp greedy?(sampler), do: sampler.temperature == 0

  # The logits with bias and penalty, in 32 bits.
  defp processed(sampler, logits, state, tokens \\ nil) do
    logits = logits |> Nx.as_type(:f32) |> Filter.bias(sampler.logit_bias)

    case {sampler.repetition_penalty, Nx.rank(logits)} do
      {nil, _rank} -> logits
      {penalty, 2} -> Filter.repetition(logits, state.recent, penalty)
      {penalty, 3} -> each_position(logits, state.recent, penalty, tokens)
    end
  end

  # Each position has other last tokens.
  defp each_position(logits, recent, penalty, tokens) do
    {batch, positions, _vocabulary} = Nx.shape(logits)
    tokens = Options.between!(tokens, {batch, positions - 1})

    {parts, _recent} =
      Enum.map_reduce(0..(positions - 1), recent, fn at, recent ->
        part = Filter.repetition(logits[[.., at]], recent, penalty)

        {Nx.new_axis(part, 1),
         if(at < positions - 1, do: Recent.push(recent, tokens[[.., at..at]]))}
      end)

    Nx.concatenate(parts, axis: 1)
  end
end
