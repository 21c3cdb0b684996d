defmodule Emily.Quantization.Block do
  @moduledoc false
  # What the operations on quantized matrices have in common: each is a block, which Emily knows and others
  # compute by its default, as in `Emily.Fast.Kernel`.

  alias Nx.Tensor, as: T

  @floats [{:f, 32}, {:f, 16}, {:bf, 16}]

  @doc "The types that the native operations take."
  @spec floats() :: [Nx.Type.t()]
  def floats, do: @floats

  @doc "Calls the block; `default` is given it and the list of tensors."
  @spec call(struct(), [T.t()], T.t() | tuple(), (struct(), [T.t()] -> T.t() | tuple())) ::
          T.t() | tuple()
  def call(block, tensors, out, default) do
    if Enum.any?(tensors, &(&1.vectorized_axes != [])),
      do: default.(block, tensors),
      else: Nx.block(block, tensors, out, variadic(default, length(tensors)))
  end

  # Nx calls a default with as many arguments as there are tensors.
  defp variadic(fun, 1), do: fn block, a -> fun.(block, [a]) end
  defp variadic(fun, 2), do: fn block, a, b -> fun.(block, [a, b]) end
  defp variadic(fun, 3), do: fn block, a, b, c -> fun.(block, [a, b, c]) end
  defp variadic(fun, 4), do: fn block, a, b, c, d -> fun.(block, [a, b, c, d]) end
  defp variadic(fun, 5), do: fn block, a, b, c, d, e -> fun.(block, [a, b, c, d, e]) end
  defp variadic(fun, 6), do: fn block, a, b, c, d, e, f -> fun.(block, [a, b, c, d, e, f]) end

  @doc "The shape with another last size."
  @spec with_last(tuple(), non_neg_integer()) :: tuple()
  def with_last(shape, size), do: put_elem(shape, tuple_size(shape) - 1, size)

  @doc "Its last size."
  @spec last(tuple()) :: non_neg_integer()
  def last(shape), do: elem(shape, tuple_size(shape) - 1)
end
