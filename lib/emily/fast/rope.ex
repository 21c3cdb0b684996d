defmodule Emily.Fast.Rope do
  @moduledoc false

  alias Emily.Fast.Kernel

  @enforce_keys [:dims, :traditional, :base, :scale]
  defstruct [:dims, :traditional, :base, :scale]

  @doc "As `Emily.Fast.rope/3`, with all options."
  @spec apply(Nx.Tensor.t(), Nx.Tensor.t() | integer(), keyword()) :: Nx.Tensor.t()
  def apply(x, offset, opts) do
    x = Kernel.floating(x)
    offset = Nx.to_tensor(offset)
    Kernel.expect!(Nx.rank(x) >= 3, "a tensor with three axes or more", [x])

    Kernel.expect!(
      offset.shape in [{}, {elem(x.shape, 0)}],
      "a tensor, and an offset or one for each row of the batch",
      [x, offset]
    )

    if not Nx.Type.integer?(offset.type),
      do:
        raise(
          ArgumentError,
          "expected the offset to be of integers, got: #{inspect(offset.type)}"
        )

    offset = Nx.as_type(offset, :s32)
    rope = rope(x, opts)

    case frequencies(opts[:frequencies], rope.dims) do
      nil -> Kernel.call(rope, [x, offset], x.shape, &composed/3)
      given -> Kernel.call(rope, [x, offset, given], x.shape, &composed/4)
    end
  end

  defp rope(x, opts) do
    features = elem(x.shape, tuple_size(x.shape) - 1)
    dims = opts[:dims] || features

    if not (is_integer(dims) and dims > 0 and rem(dims, 2) == 0 and dims <= features) do
      raise ArgumentError,
            "expected :dims to be an even number up to the features, which are #{features}, " <>
              "got: #{inspect(dims)}"
    end

    if opts[:base] && opts[:frequencies],
      do: raise(ArgumentError, "expected one of :base and :frequencies, got: both")

    base =
      if opts[:frequencies] == nil,
        do: Kernel.number!(opts[:base] || 10_000, :base, &(&1 > 0), "a positive number")

    %__MODULE__{
      dims: dims,
      traditional: opts[:traditional] == true,
      base: base,
      scale: Kernel.number!(opts[:scale], :scale, fn _any -> true end, "a number")
    }
  end

  defp frequencies(nil, _dims), do: nil

  defp frequencies(frequencies, dims) do
    frequencies = frequencies |> Nx.to_tensor() |> Nx.as_type(:f32)

    Kernel.expect!(
      frequencies.shape == {div(dims, 2)},
      ":frequencies to be one for each pair of #{dims} features",
      [frequencies]
    )

    frequencies
  end

  defp composed(%__MODULE__{dims: dims, base: base} = rope, x, offset) do
    type = Kernel.wide(x.type)
    step = Kernel.scalar(-2 * :math.log(base) / dims, type)
    turned(rope, x, offset, Nx.exp(Nx.multiply(Nx.iota({div(dims, 2)}, type: type), step)))
  end

  defp composed(rope, x, offset, frequencies),
    do: turned(rope, x, offset, Nx.divide(1, frequencies))

  # `speeds` is the angle of each pair for one position.
  defp turned(%{dims: dims} = rope, x, offset, speeds) do
    rank = Nx.rank(x)
    last = rank - 1
    type = Kernel.wide(x.type)
    angles = angles(rope, x, offset, speeds, type)
    {cos, sin} = {Nx.cos(angles), Nx.sin(angles)}
    features = Nx.axis_size(x, last)
    wide = Nx.as_type(x, type)
    {first, second} = halves(wide, dims, rope.traditional)

    turned =
      joined(
        Nx.subtract(Nx.multiply(first, cos), Nx.multiply(second, sin)),
        Nx.add(Nx.multiply(first, sin), Nx.multiply(second, cos)),
        rope.traditional
      )

    wide
    |> rest(dims, features, last)
    |> then(&Nx.concatenate([turned | &1], axis: last))
    |> Nx.as_type(x.type)
  end

  defp rest(_x, features, features, _axis), do: []

  defp rest(x, dims, features, axis),
    do: [Nx.slice_along_axis(x, dims, features - dims, axis: axis)]

  # {batch or 1, 1, …, positions, pairs}.
  defp angles(rope, x, offset, speeds, type) do
    rank = Nx.rank(x)
    count = Nx.axis_size(x, rank - 2)
    offset = Nx.reshape(Nx.as_type(offset, type), {:auto, 1})
    positions = Nx.add(Nx.iota({1, count}, type: type), offset)
    positions = Nx.multiply(positions, Kernel.scalar(rope.scale, type))
    angles = Nx.multiply(Nx.new_axis(positions, -1), Nx.reshape(speeds, {1, 1, :auto}))
    ones = List.duplicate(1, rank - 3)
    {rows, ^count, pairs} = Nx.shape(angles)
    Nx.reshape(angles, List.to_tuple([rows] ++ ones ++ [count, pairs]))
  end

  defp halves(x, dims, traditional) do
    axis = Nx.rank(x) - 1
    half = div(dims, 2)

    if traditional do
      {Nx.slice_along_axis(x, 0, dims - 1, axis: axis, strides: 2),
       Nx.slice_along_axis(x, 1, dims - 1, axis: axis, strides: 2)}
    else
      {Nx.slice_along_axis(x, 0, half, axis: axis),
       Nx.slice_along_axis(x, half, half, axis: axis)}
    end
  end

  defp joined(first, second, false),
    do: Nx.concatenate([first, second], axis: Nx.rank(first) - 1)

  defp joined(first, second, true) do
    [pairs | others] = first.shape |> Tuple.to_list() |> Enum.reverse()
    shape = [2 * pairs | others] |> Enum.reverse() |> List.to_tuple()
    [first, second] |> Nx.stack(axis: -1) |> Nx.reshape(shape)
  end
end
