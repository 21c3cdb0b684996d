defmodule Emily.Fast.Kernel do
  @moduledoc false
  # What the operations of `Emily.Fast` have in common: where a kernel takes the tensors, an operation is a
  # block, which Emily knows and others compute by its default; elsewhere it is the default alone.

  alias Nx.Tensor, as: T

  @types [{:f, 32}, {:f, 16}, {:bf, 16}]

  @doc """
  Calls the block; its result is like the first tensor, with `shape`. `default` is given the block and the
  tensors.
  """
  @spec call(struct(), [T.t()], tuple(), function()) :: T.t()
  def call(block, [first | _others] = tensors, shape, default) do
    vectorized? = Enum.any?(tensors, &(&1.vectorized_axes != []))

    if vectorized? or first.type not in @types do
      apply(default, [block | tensors])
    else
      names = if shape == first.shape, do: first.names
      Nx.block(block, tensors, Nx.template(shape, first.type, names: names), default)
    end
  end

  @doc "The tensor with its floating type."
  @spec floating(Nx.Tensor.t() | number()) :: T.t()
  def floating(x) do
    x = Nx.to_tensor(x)
    Nx.as_type(x, Nx.Type.to_floating(x.type))
  end

  @doc "A type of at least 32 bits to compute in."
  @spec wide(Nx.Type.t()) :: Nx.Type.t()
  def wide({_kind, size} = type) when size >= 32, do: type
  def wide(_narrow), do: {:f, 32}

  @doc "The number as a tensor; on its own Nx would round it to `:f32` before an operation with `:f64`."
  @spec scalar(number(), Nx.Type.t()) :: T.t()
  def scalar(number, type), do: Nx.tensor(number, type: type)

  @doc "Raises unless it holds."
  @spec expect!(boolean(), String.t(), [T.t()]) :: :ok
  def expect!(true, _what, _given), do: :ok

  def expect!(false, what, given) do
    shapes = Enum.map_join(given, ", ", &inspect(&1.shape))
    raise ArgumentError, "expected #{what}, got: #{shapes}"
  end

  @doc "Raises unless it is a number that `fits?`."
  @spec number!(term(), atom(), (number() -> boolean()), String.t()) :: float()
  def number!(value, name, fits?, what) do
    if not (is_number(value) and fits?.(value)),
      do: raise(ArgumentError, "expected #{inspect(name)} to be #{what}, got: #{inspect(value)}")

    value * 1.0
  end
end
