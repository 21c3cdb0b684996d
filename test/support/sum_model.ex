if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.SumModel do
    @moduledoc """
    A language model without weights worth the name: the token that follows is a sum of all before, each times its
    place, so that every token and every place matters. `next/1` says the same without tensors.
    """

    alias Emily.Generation

    @vocabulary 31

    @doc "How many tokens there are."
    def vocabulary, do: @vocabulary

    @doc "What follows after these tokens."
    def next(tokens) do
      tokens
      |> Enum.with_index(1)
      |> Enum.sum_by(fn {token, place} -> (token + 1) * place end)
      |> Kernel.+(7)
      |> rem(@vocabulary)
    end

    @doc "The `count` tokens that follow."
    def continued(_tokens, 0), do: []

    def continued(tokens, count) do
      token = next(tokens)
      [token | continued(tokens ++ [token], count - 1)]
    end

    @doc "A cache of the tokens themselves."
    def cache(batch, capacity) do
      %{
        tokens: Nx.broadcast(Nx.tensor(0, type: :s32), {batch, capacity}),
        position: Nx.tensor(0, type: :s32),
        starts: Nx.broadcast(Nx.tensor(0, type: :s32), {batch})
      }
    end

    @doc "The cache with room for so many positions, or some more."
    def grow(cache, capacity) do
      room = ceil(capacity / 16) * 16 - Nx.axis_size(cache.tokens, 1)
      %{cache | tokens: Nx.pad(cache.tokens, 0, [{0, 0, 0}, {0, room, 0}])}
    end

    @doc "The cache without its last positions."
    def trim(cache, count), do: %{cache | position: Nx.subtract(cache.position, count)}

    @doc "The cache where each row begins later."
    def pad(cache, starts), do: %{cache | starts: starts}

    @doc "The model's function."
    def forward(params, tokens, cache) do
      {_batch, length} = Nx.shape(tokens)
      held = Nx.put_slice(cache.tokens, [0, cache.position], tokens)
      place = Nx.iota({1, 1, Nx.axis_size(held, 1)}, type: :s32)
      query = Nx.add(cache.position, Nx.iota({1, length, 1}, type: :s32))
      start = Nx.reshape(cache.starts, {:auto, 1, 1})
      seen = Nx.logical_and(Nx.less_equal(place, query), Nx.greater_equal(place, start))
      weight = Nx.select(seen, place |> Nx.subtract(start) |> Nx.add(1), 0)

      sums =
        weight
        |> Nx.multiply(held |> Nx.add(1) |> Nx.new_axis(1))
        |> Nx.sum(axes: [2])
        |> Nx.add(7)
        |> Nx.remainder(@vocabulary)

      logits =
        sums
        |> Nx.new_axis(2)
        |> Nx.equal(Nx.iota({1, 1, @vocabulary}, type: :s32))
        |> Nx.multiply(params.sharpness)

      {logits, %{cache | tokens: held, position: Nx.add(cache.position, length)}}
    end

    @doc "A generation of it; with `forward: fun` that is the model's function."
    def generation(options \\ []) do
      {forward, options} = Keyword.pop(options, :forward, &forward/3)
      {room, options} = Keyword.pop(options, :room, 8)

      Generation.new(
        forward,
        %{sharpness: Nx.tensor(10.0)},
        Keyword.merge(
          [
            cache: &cache(&1, room),
            capacity: &Nx.axis_size(&1.tokens, 1),
            grow: &grow/2,
            trim: &trim/2,
            pad: &pad/2,
            prefill_chunk: 4
          ],
          options
        )
      )
    end
  end
end
