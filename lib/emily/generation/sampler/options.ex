defmodule Emily.Generation.Sampler.Options do
  @moduledoc false
  # What a sampler's functions are given, and whether it makes sense.

  @order [:temperature, :top_k, :top_p, :min_p]

  @known [
    top_k: nil,
    top_p: nil,
    min_p: nil,
    repetition_penalty: nil,
    temperature: 1.0,
    repetition_window: 64,
    logit_bias: %{},
    order: @order
  ]

  @doc "A sampler's fields. What changes nothing is `nil`."
  def validate!(opts) do
    for {name, value} <- Keyword.validate!(opts, @known), do: {name, field!(name, value)}
  end

  defp field!(name, nil) when name in [:top_k, :top_p, :min_p, :repetition_penalty], do: nil
  defp field!(:top_k, count) when is_integer(count) and count > 0, do: count
  defp field!(:top_p, share) when share == 1, do: nil
  defp field!(:top_p, share) when is_number(share) and share > 0 and share < 1, do: share * 1.0
  defp field!(:min_p, share) when share == 0, do: nil
  defp field!(:min_p, share) when is_number(share) and share > 0 and share <= 1, do: share * 1.0
  defp field!(:temperature, value) when is_number(value) and value >= 0, do: value * 1.0
  defp field!(:repetition_penalty, penalty) when penalty == 1, do: nil

  defp field!(:repetition_penalty, penalty) when is_number(penalty) and penalty > 0,
    do: penalty * 1.0

  defp field!(:repetition_window, window) when is_integer(window) and window > 0, do: window

  defp field!(:logit_bias, bias) when is_map(bias) and not is_struct(bias),
    do: bias |> Enum.map(&bias!/1) |> Enum.sort()

  defp field!(:order, order) do
    if is_list(order) and Enum.sort(order) == Enum.sort(@order),
      do: order,
      else: refuse(:order, order)
  end

  defp field!(name, value), do: refuse(name, value)

  defp bias!({token, value})
       when is_integer(token) and token >= 0 and (is_number(value) or value == :neg_infinity) do
    {token, if(is_number(value), do: value * 1.0, else: value)}
  end

  defp bias!(other), do: refuse(:logit_bias, other)

  @spec refuse(atom(), term()) :: no_return()
  defp refuse(name, value) do
    raise ArgumentError,
          "expected #{inspect(name)} to be #{expected(name)}, got: #{inspect(value)}"
  end

  defp expected(:temperature), do: "a number from 0 on"
  defp expected(:top_k), do: "a positive integer"
  defp expected(:top_p), do: "a number above 0 and up to 1"
  defp expected(:min_p), do: "a number from 0 to 1"
  defp expected(:repetition_penalty), do: "a positive number"
  defp expected(:repetition_window), do: "a positive integer"
  defp expected(:order), do: "all of #{inspect(@order)} in some order"
  defp expected(:seed), do: "an integer from 0 on"
  defp expected(:logit_bias), do: "a map of tokens to numbers or :neg_infinity"

  @doc "The seed, or one that is drawn."
  def seed!(nil), do: :rand.uniform(0x100000000) - 1
  def seed!(seed) when is_integer(seed) and seed >= 0, do: seed
  def seed!(other), do: refuse(:seed, other)

  @doc "A prompt as a tensor of `:s32`."
  def prompt!(prompt) do
    prompt = if is_list(prompt), do: Nx.tensor(prompt), else: Nx.to_tensor(prompt)
    integers!(prompt, &match?({_batch, _positions}, &1), "a prompt of {batch, positions}")
  end

  @doc "The prompt with -1 for padding."
  def padded(prompt, nil), do: prompt

  def padded(prompt, starts) do
    {batch, positions} = Nx.shape(prompt)
    starts = if is_list(starts), do: Nx.tensor(starts), else: Nx.to_tensor(starts)
    starts = integers!(starts, &(&1 == {batch}), ":starts of {#{batch}}")
    at = Nx.iota({batch, positions}, axis: 1, type: :s32)
    Nx.select(Nx.less(at, Nx.new_axis(starts, 1)), -1, prompt)
  end

  @doc "Logits with as many axes as `ranks` say."
  def logits!(logits, ranks, state) do
    logits = Nx.to_tensor(logits)

    if Nx.rank(logits) not in List.wrap(ranks) do
      forms = %{2 => "{batch, vocabulary}", 3 => "{batch, positions, vocabulary}"}
      expected = ranks |> List.wrap() |> Enum.map_join(" or ", &forms[&1])
      raise ArgumentError, "expected logits of #{expected}, got: #{inspect(logits.shape)}"
    end

    if rows(state) not in [nil, Nx.axis_size(logits, 0)] do
      raise ArgumentError,
            "expected logits of {#{rows(state)}, vocabulary}, the rows that the state is of, got: " <>
              inspect(logits.shape)
    end

    logits
  end

  # The state knows of its rows by their last tokens.
  defp rows(%{recent: {}}), do: nil
  defp rows(%{recent: recent}), do: Nx.axis_size(recent, 0)

  @doc "Tokens of some positions."
  def tokens!(tokens, state) do
    tokens = Nx.to_tensor(tokens)
    tokens = if Nx.rank(tokens) == 1, do: Nx.new_axis(tokens, 1), else: tokens
    tokens = integers!(tokens, &(tuple_size(&1) == 2), "tokens of {batch} or {batch, positions}")

    if rows(state) not in [nil, Nx.axis_size(tokens, 0)] do
      raise ArgumentError,
            "expected tokens of #{rows(state)} rows, which the state is of, got: #{inspect(tokens.shape)}"
    end

    tokens
  end

  @doc "Tokens between positions."
  def between!(tokens, shape) do
    if tokens == nil,
      do:
        raise(
          ArgumentError,
          "expected the tokens between positions for :repetition_penalty, got: nil"
        )

    integers!(Nx.to_tensor(tokens), &(&1 == shape), "tokens of #{inspect(shape)}")
  end

  @doc "Logits of `:f32`, and tokens that were chosen from them."
  def chosen!(logits, tokens) do
    logits = logits |> Nx.to_tensor() |> Nx.as_type(:f32)
    shape = Tuple.delete_at(logits.shape, Nx.rank(logits) - 1)
    {logits, integers!(Nx.to_tensor(tokens), &(&1 == shape), "tokens of #{inspect(shape)}")}
  end

  @doc "Probabilities and tokens that fit each other."
  def draft!(target, draft, tokens) do
    [target, tokens] = Enum.map([target, tokens], &Nx.to_tensor/1)
    draft = if draft == nil, do: nil, else: Nx.to_tensor(draft)

    with {batch, positions, vocabulary} <- target.shape,
         drafted when drafted > 0 <- positions - 1,
         true <- draft == nil or draft.shape == {batch, drafted, vocabulary},
         {^batch, ^drafted} <- tokens.shape do
      {target, draft, integers!(tokens, fn _any -> true end, "tokens")}
    else
      _other ->
        raise ArgumentError,
              "expected a target of {batch, drafted + 1, vocabulary}, a draft of {batch, drafted, vocabulary} or nil, " <>
                "and tokens of {batch, drafted}, got: " <>
                Enum.map_join([target, draft, tokens], ", ", &inspect(&1 && &1.shape))
    end
  end

  defp integers!(tensor, fits?, what) do
    if not (Nx.Type.integer?(tensor.type) and fits?.(tensor.shape)) do
      raise ArgumentError,
            "expected #{what}, integers, got: #{Nx.Type.to_string(tensor.type)} #{inspect(tensor.shape)}"
    end

    Nx.as_type(tensor, :s32)
  end
end
