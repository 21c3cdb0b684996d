defmodule Emily.Generation.Cache.QuantizedAttention do
  @moduledoc false
  # Attention to quantized keys and values, of which nothing is dequantized: for few queries reading them is what
  # takes the time. It computes in 32 bits, as products on a CPU add up in the type of their tensor.

  alias Emily.Fast.Kernel
  alias Emily.Quantization

  @doc "As `Emily.Fast.scaled_dot_product_attention/4`, with a mask of integers."
  def apply(query, keys, values, opts) do
    {batch, heads, positions, features} = Nx.shape(query)
    groups = Nx.axis_size(keys.scales, 1)
    rows = div(heads, groups) * positions
    scale = opts[:scale] || 1 / :math.sqrt(features)
    scale = Kernel.number!(scale, :scale, fn _any -> true end, "a number")

    weights =
      query
      |> Nx.as_type(:f32)
      |> Nx.multiply(scale)
      |> Nx.reshape({batch, groups, rows, features})
      |> Quantization.quantized_matmul(keys)
      |> Nx.reshape({batch, heads, positions, :auto})
      |> masked(opts[:mask])
      |> softmax(opts[:sinks])

    weights
    |> Nx.reshape({batch, groups, rows, :auto})
    |> Quantization.quantized_matmul(values, transpose: false)
    |> Nx.reshape({batch, heads, positions, :auto})
    |> Nx.as_type(query.type)
  end

  defp masked(scores, mask),
    do: mask |> Nx.broadcast(scores.shape) |> Nx.select(scores, Nx.Constants.min_finite(:f32))

  defp softmax(scores, nil) do
    greatest = Nx.reduce_max(scores, axes: [-1], keep_axes: true)
    exp = Nx.exp(Nx.subtract(scores, greatest))
    Nx.divide(exp, Nx.sum(exp, axes: [-1], keep_axes: true))
  end

  # A sink has a score and no value.
  defp softmax(scores, sinks) do
    {batch, heads, positions, seen} = Nx.shape(scores)
    sinks = Nx.to_tensor(sinks)
    Kernel.expect!(sinks.shape == {heads}, ":sinks to be one for each head", [sinks])
    sinks = sinks |> Nx.as_type(:f32) |> Nx.reshape({1, heads, 1, 1})

    [scores, Nx.broadcast(sinks, {batch, heads, positions, 1})]
    |> Nx.concatenate(axis: 3)
    |> softmax(nil)
    |> Nx.slice_along_axis(0, seen, axis: 3)
  end
end
