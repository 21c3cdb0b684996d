defmodule Emily.Fast.LayerNorm do
  @moduledoc false

  alias Emily.Fast.Kernel

  @enforce_keys [:epsilon]
  defstruct [:epsilon]

  @doc "As `Emily.Fast.layer_norm/4`."
  @spec apply(Nx.Tensor.t(), Nx.Tensor.t(), Nx.Tensor.t(), number()) :: Nx.Tensor.t()
  def apply(x, weight, bias, epsilon) do
    epsilon = Kernel.number!(epsilon, :epsilon, &(&1 >= 0), "a number of at least 0")
    x = Kernel.floating(x)
    [weight, bias] = for y <- [weight, bias], do: y |> Nx.to_tensor() |> Nx.as_type(x.type)
    last = x.shape |> Tuple.to_list() |> Enum.take(-1) |> List.to_tuple()

    Kernel.expect!(
      Nx.rank(x) > 0 and weight.shape == last and bias.shape == last,
      "a tensor, and a weight and a bias as long as its last axis",
      [x, weight, bias]
    )

    Kernel.call(%__MODULE__{epsilon: epsilon}, [x, weight, bias], x.shape, &composed/4)
  end

  defp composed(%__MODULE__{epsilon: epsilon}, x, weight, bias) do
    type = Kernel.wide(x.type)
    wide = Nx.as_type(x, type)
    centred = Nx.subtract(wide, Nx.mean(wide, axes: [-1], keep_axes: true))
    variance = centred |> Nx.multiply(centred) |> Nx.mean(axes: [-1], keep_axes: true)

    centred
    |> Nx.multiply(Nx.rsqrt(Nx.add(variance, Kernel.scalar(epsilon, type))))
    |> Nx.as_type(x.type)
    |> Nx.multiply(weight)
    |> Nx.add(bias)
  end
end
