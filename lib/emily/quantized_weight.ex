defmodule Emily.QuantizedWeight do
  @moduledoc """
  A matrix, or several, of numbers of 2 to 8 bits, as `Emily.Quantization` makes and uses them.

  It is a container: pass it to `defn` and return it from there as any tensor, put it into maps of parameters, and
  serialize it with `Nx.serialize/2`.

  ## Fields

    * `:packed` - the numbers as `{…, rows, columns * bits / 32}` of `:u32`, the first one in the lowest bits
    * `:scales` - one for each group of a row, `{…, rows, columns / group_size}`, of a floating type if affine, else `:u8`
    * `:biases` - as the scales if affine, else `nil`
    * `:mode`, `:bits`, `:group_size` - see `Emily.Quantization.quantize/2`
    * `:type` - the type that `Emily.Quantization.dequantize/1` gives, if the mode is not affine; affine numbers have
      the type of their scales

  This is what MLX's own quantized checkpoints hold as `NAME.weight`, `NAME.scales` and `NAME.biases`: `new/4` makes a weight
  of them.

      iex> weight = Emily.Quantization.quantize(Nx.iota({2, 64}, type: :f32), bits: 8, group_size: 32)
      iex> Emily.QuantizedWeight.shape(weight)
      {2, 64}
      iex> weight
      #Emily.QuantizedWeight<f32[2][64], affine, 8 bits in groups of 32>
  """

  alias Emily.Quantization.Scheme
  alias Nx.Tensor, as: T

  @enforce_keys [:packed, :scales, :mode, :bits, :group_size]
  defstruct [:packed, :scales, :biases, :mode, :bits, :group_size, :type]

  @typedoc "A quantized matrix, or several."
  @type t :: %__MODULE__{
          packed: Nx.Tensor.t(),
          scales: Nx.Tensor.t(),
          biases: Nx.Tensor.t() | nil,
          mode: Scheme.mode(),
          bits: pos_integer(),
          group_size: pos_integer(),
          type: Nx.Type.t() | nil
        }

  @floats [{:f, 32}, {:f, 16}, {:bf, 16}]

  @doc """
  The weight that packed numbers, scales and biases are.

  ## Options

    * `:mode`, `:bits`, `:group_size` - as in `Emily.Quantization.quantize/2`
    * `:type` - what it dequantizes to if the mode is not `:affine`; `:bf16` when absent

  Raises an `ArgumentError` if types or shapes do not go together.

  ## Examples

      iex> packed = Nx.broadcast(Nx.u32(0x76543210), {1, 4})
      iex> weight = Emily.QuantizedWeight.new(packed, Nx.tensor([[2.0]]), Nx.tensor([[1.0]]), group_size: 32)
      iex> Emily.Quantization.dequantize(weight)[0][0..7]
      #Nx.Tensor<
        f32[8]
        [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0]
      >
  """
  @spec new(Nx.Tensor.t(), Nx.Tensor.t(), Nx.Tensor.t() | nil, keyword()) :: t()
  def new(packed, scales, biases \\ nil, opts \\ []) do
    opts = Keyword.validate!(opts, [:mode, :bits, :group_size, type: {:bf, 16}])
    scheme = Scheme.new!(opts)
    type = Nx.Type.normalize!(opts[:type])
    affine? = scheme.mode == :affine

    if type not in @floats,
      do:
        raise(
          ArgumentError,
          "expected :type to be :f32, :f16 or :bf16, got: #{inspect(opts[:type])}"
        )

    check!(%__MODULE__{
      packed: packed,
      scales: scales,
      biases: biases,
      mode: scheme.mode,
      bits: scheme.bits,
      group_size: scheme.group_size,
      type: if(affine?, do: nil, else: type)
    })
  end

  @doc """
  The shape of the numbers, `{…, rows, columns}`.

      iex> weight = Emily.Quantization.quantize(Nx.iota({3, 4, 32}, type: :f32), mode: :mxfp4)
      iex> Emily.QuantizedWeight.shape(weight)
      {3, 4, 32}
  """
  @spec shape(t()) :: tuple()
  def shape(%__MODULE__{scales: %T{shape: shape}, group_size: group_size}) do
    last = tuple_size(shape) - 1
    put_elem(shape, last, elem(shape, last) * group_size)
  end

  @doc """
  The type that the numbers are dequantized to.

      iex> weight = Emily.Quantization.quantize(Nx.iota({4, 32}, type: :bf16), mode: :mxfp8)
      iex> Emily.QuantizedWeight.type(weight)
      {:bf, 16}
  """
  @spec type(t()) :: Nx.Type.t()
  def type(%__MODULE__{mode: :affine, scales: scales}), do: scales.type
  def type(%__MODULE__{type: type}), do: type

  @doc false
  # The tensors, of which there are two or three.
  @spec parts(t()) :: [Nx.Tensor.t()]
  def parts(%__MODULE__{packed: packed, scales: scales, biases: nil}), do: [packed, scales]

  def parts(%__MODULE__{packed: packed, scales: scales, biases: biases}),
    do: [packed, scales, biases]

  @doc false
  # The weight, unless its fields do not go together: a struct may come from anywhere.
  @spec check!(t()) :: t()
  def check!(%__MODULE__{} = weight) do
    scheme = Scheme.new!(Map.take(weight, [:mode, :bits, :group_size]))
    tensors = parts(weight)
    tensors? = Enum.all?(tensors, &match?(%T{vectorized_axes: []}, &1))

    if not (tensors? and length(tensors) == Scheme.parts(scheme) and types?(weight) and
              shapes?(weight)) do
      shared =
        if scheme.mode == :affine,
          do: "scales and biases of :f32, :f16 or :bf16",
          else: "scales of :u8 and no biases"

      given = Enum.map_join(tensors, ", ", &inspect_tensor/1)

      raise ArgumentError,
            "expected packed numbers of :u32, and #{shared} that go with them in groups of #{scheme.group_size} " <>
              "numbers of #{scheme.bits} bits, got: #{given}"
    end

    weight
  end

  defp types?(%{packed: %{type: {:u, 32}}, scales: scales, biases: nil}),
    do: scales.type == {:u, 8}

  defp types?(%{packed: %{type: {:u, 32}}, scales: scales, biases: biases}),
    do: scales.type in @floats and biases.type == scales.type and biases.shape == scales.shape

  defp types?(_other), do: false

  defp shapes?(%{packed: packed, scales: scales, bits: bits, group_size: group_size}) do
    {before, [words]} = packed.shape |> Tuple.to_list() |> Enum.split(-1)
    {others, [groups]} = scales.shape |> Tuple.to_list() |> Enum.split(-1)
    before != [] and before == others and words * 32 == groups * group_size * bits
  rescue
    # A scalar has no last axis.
    MatchError -> false
  end

  @doc false
  @spec inspect_tensor(term()) :: String.t()
  def inspect_tensor(%T{} = tensor) do
    sizes = for size <- Tuple.to_list(tensor.shape), do: "[#{size}]"
    "#{Nx.Type.to_string(tensor.type)}#{sizes}"
  end

  def inspect_tensor(other), do: inspect(other)

  defimpl Nx.Container do
    @kept [:mode, :bits, :group_size, :type]

    def traverse(weight, acc, fun) do
      Enum.reduce(fields(weight), {weight, acc}, fn field, {weight, acc} ->
        {tensor, acc} = weight |> Map.fetch!(field) |> fun.(acc)
        {Map.put(weight, field, tensor), acc}
      end)
    end

    def reduce(weight, acc, fun),
      do: Enum.reduce(fields(weight), acc, &fun.(Map.fetch!(weight, &1), &2))

    def serialize(weight) do
      tensors = for field <- fields(weight), do: {field, Map.fetch!(weight, field)}
      {__MODULE__, tensors, Map.to_list(Map.take(weight, @kept))}
    end

    def deserialize(tensors, kept), do: struct!(Emily.QuantizedWeight, tensors ++ kept)

    defp fields(%{biases: nil}), do: [:packed, :scales]
    defp fields(_affine), do: [:packed, :scales, :biases]
  end

  # Libraries that walk parameters as nested maps, to count them or to show their sizes, find its tensors.
  defimpl Enumerable do
    alias Emily.QuantizedWeight

    def reduce(weight, acc, fun), do: Enumerable.reduce(pairs(weight), acc, fun)
    def count(weight), do: {:ok, length(pairs(weight))}
    def member?(weight, pair), do: {:ok, pair in pairs(weight)}
    def slice(_weight), do: {:error, __MODULE__}

    defp pairs(weight), do: Enum.zip([:packed, :scales, :biases], QuantizedWeight.parts(weight))
  end

  defimpl Inspect do
    alias Emily.QuantizedWeight

    def inspect(%{scales: %Nx.Tensor{}} = weight, _opts) do
      type = Nx.Type.to_string(QuantizedWeight.type(weight))
      sizes = for size <- Tuple.to_list(QuantizedWeight.shape(weight)), do: "[#{size}]"

      "#Emily.QuantizedWeight<#{type}#{sizes}, #{weight.mode}, #{weight.bits} bits in groups of " <>
        "#{weight.group_size}>"
    end

    def inspect(weight, opts), do: Inspect.Any.inspect(weight, opts)
  end
end
