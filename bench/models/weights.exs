# Weights as those of data.py, which says what they are.
defmodule Bench.Weights do
  @sizes %{
    "encoder-small" => %{blocks: 4, tokens: 16, hidden: 256, heads: 4, intermediate: 1024},
    "encoder-base" => %{blocks: 12, tokens: 128, hidden: 768, heads: 12, intermediate: 3072},
    "decoder-small" => %{
      blocks: 28,
      hidden: 256,
      heads: 4,
      groups: 2,
      head: 64,
      intermediate: 768,
      positions: 256
    },
    "decoder-0.6b" => %{
      blocks: 28,
      hidden: 1024,
      heads: 16,
      groups: 8,
      head: 128,
      intermediate: 3072,
      positions: 256
    }
  }

  def size(model), do: Map.fetch!(@sizes, model)

  @doc "The input and the blocks' weights."
  def encoder(%{hidden: hidden, intermediate: intermediate} = size) do
    dense = [
      query: {hidden, hidden},
      key: {hidden, hidden},
      value: {hidden, hidden},
      out: {hidden, hidden},
      up: {hidden, intermediate},
      down: {intermediate, hidden}
    ]

    blocks =
      for at <- 0..(size.blocks - 1) do
        kernels =
          for {{name, {rows, columns}}, place} <- Enum.with_index(dense), into: %{} do
            seed = 100 * at + 2 * place
            {name, %{kernel: kernel(rows, columns, seed, :f32), bias: bias(columns, seed + 1)}}
          end

        for {name, seed} <- [attention_norm: 100 * at + 12, output_norm: 100 * at + 14],
            into: kernels,
            do: {name, %{scale: scale(hidden, seed, :f32), bias: bias(hidden, seed + 1)}}
      end

    {pattern({1, size.tokens, hidden}, 7, :f32), List.to_tuple(blocks)}
  end

  @doc "The input, the blocks' caches and their weights, in bf16."
  def decoder(%{hidden: hidden, intermediate: intermediate, head: head} = size) do
    {inner, shared} = {size.heads * head, size.groups * head}

    kernels = [
      query: {hidden, inner},
      key: {hidden, shared},
      value: {hidden, shared},
      out: {inner, hidden},
      gate: {hidden, intermediate},
      up: {hidden, intermediate},
      down: {intermediate, hidden}
    ]

    scales = [attention_norm: hidden, query_norm: head, key_norm: head, output_norm: hidden]

    blocks =
      for at <- 0..(size.blocks - 1) do
        for {{name, shape}, place} <- Enum.with_index(kernels ++ scales), into: %{} do
          seed = 100 * at + place

          case shape do
            {rows, columns} -> {name, kernel(rows, columns, seed, :bf16)}
            length -> {name, scale(length, seed, :bf16)}
          end
        end
      end

    cached = {1, size.positions, size.groups, head}

    cache =
      for at <- 0..(size.blocks - 1) do
        %{key: pattern(cached, 3 * at, :bf16), value: pattern(cached, 3 * at + 1, :bf16)}
      end

    {pattern({1, 1, hidden}, 7, :bf16), List.to_tuple(cache), List.to_tuple(blocks)}
  end

  # Multiples of 1/128 from -1 to 1, which every float type holds exactly.
  defp pattern(shape, seed, type) do
    {Tuple.product(shape)}
    |> Nx.iota(type: :s64)
    |> Nx.multiply(7919)
    |> Nx.add(seed * 104_729)
    |> Nx.remainder(257)
    |> Nx.divide(128)
    |> Nx.subtract(1)
    |> Nx.as_type(type)
    |> Nx.reshape(shape)
  end

  # Of about unit gain.
  defp kernel(rows, columns, seed, type) do
    gain = 2.0 ** -round(:math.log2(rows) / 2)
    {rows, columns} |> pattern(seed, :f32) |> Nx.multiply(gain) |> Nx.as_type(type)
  end

  defp scale(size, seed, type) do
    {size} |> pattern(seed, :f32) |> Nx.divide(8) |> Nx.add(1) |> Nx.as_type(type)
  end

  defp bias(size, seed), do: {size} |> pattern(seed, :f32) |> Nx.divide(8)
end
