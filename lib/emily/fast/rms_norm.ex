defmodule Emily.Fast.RmsNorm do
  @moduledoc false

  alias Emily.Fast.Kernel

  @enforce_keys [:epsilon]
  defstruct [:epsilon]

  @doc "As `Emily.Fast.rms_norm/3`."
  @spec apply(Nx.Tensor.t(), Nx.Tensor.t(), number()) :: Nx.Tensor.t()
  def apply(x, weight, epsilon) do
    epsilon = Kernel.number!(epsilon, :epsilon, &(&1 >= 0), "a number of at least 0")
    x = Kernel.floating(x)
    weight = weight |> Nx.to_tensor() |> Nx.as_type(x.type)
    rank = Nx.rank(weight)
    last = x.shape |> Tuple.to_list() |> Enum.take(-rank) |> List.to_tuple()

    Kernel.expect!(
      rank > 0 and last == weight.shape,
      "a tensor, and a weight with the sizes of its last axes",
      [x, weight]
    )

    Kernel.call(%__MODULE__{epsilon: epsilon}, [x, weight], x.shape, &composed/3)
  end

  defp composed(%__MODULE__{epsilon: epsilon}, x, weight) do
    type = Kernel.wide(x.type)
    wide = Nx.as_type(x, type)
    mean = wide |> Nx.multiply(wide) |> Nx.mean(axes: [-1], keep_axes: true)

    wide
    |> Nx.multiply(Nx.rsqrt(Nx.add(mean, Kernel.scalar(epsilon, type))))
    |> Nx.as_type(x.type)
    |> Nx.multiply(weight)
  end
end
