defmodule Emily.Golden.Convolution do
  @moduledoc "Cases of `Nx.conv/3`."

  alias Emily.Golden.{Case, Values, View}

  # Shapes of input and kernel, and the options that are not Nx's defaults.
  @forms [
    {{1, 1, 5}, {1, 1, 3}, []},
    {{2, 3, 4}, {4, 3, 1}, []},
    {{2, 4, 7}, {6, 4, 3}, [strides: [2], padding: [{1, 2}]]},
    {{2, 4, 7}, {4, 2, 3}, [feature_group_size: 2]},
    {{4, 2, 7}, {4, 2, 3}, [batch_group_size: 2, padding: [{0, 1}]]},
    {{2, 3, 6}, {3, 1, 3}, [feature_group_size: 3, kernel_dilation: [2], padding: [{2, 2}]]},
    {{1, 2, 4}, {2, 2, 3}, [input_dilation: [3], padding: [{2, 1}]]},
    {{1, 2, 6}, {2, 2, 3}, [input_dilation: [2], padding: [{-1, 2}]]},
    {{1, 2, 6}, {2, 2, 3}, [padding: [{-1, -1}]]},
    {{1, 2, 3}, {1, 2, 2}, [padding: [{3, -4}]]},
    {{2, 3, 5, 6}, {4, 3, 3, 2}, []},
    {{2, 3, 5, 6}, {4, 3, 3, 2}, [strides: [2, 1], padding: [{1, 0}, {2, 1}]]},
    {{1, 2, 5, 4}, {2, 2, 2, 2}, [kernel_dilation: [1, 2], input_dilation: [2, 1]]},
    {{1, 4, 4, 3}, {4, 2, 2, 2}, [feature_group_size: 2, strides: [1, 2]]},
    {{4, 2, 3, 3}, {2, 2, 2, 2}, [batch_group_size: 2]},
    {{1, 2, 4, 3, 4}, {3, 2, 2, 2, 2}, [strides: [1, 1, 2], padding: [{0, 0}, {1, 0}, {0, 1}]]},
    {{1, 4, 3, 3, 3}, {2, 2, 2, 1, 2}, [feature_group_size: 2]},
    {{1, 1, 3, 3, 4}, {1, 1, 2, 2, 2}, [kernel_dilation: [1, 2, 1], input_dilation: [1, 1, 2]]},
    {{1, 2, 2, 3, 2, 3}, {2, 2, 1, 2, 2, 2}, []}
  ]

  # Where batch, channels and the spatial axes are.
  @orders [
    {{2, 5, 6, 3}, {3, 2, 3, 4},
     [
       input_permutation: [0, 3, 1, 2],
       kernel_permutation: [3, 2, 0, 1],
       output_permutation: [0, 3, 1, 2]
     ]},
    {{6, 2, 3}, {2, 2, 3},
     [input_permutation: [2, 1, 0], kernel_permutation: [1, 0, 2], output_permutation: [2, 0, 1]]},
    {{4, 3, 2, 5}, {3, 2, 2, 1},
     [
       input_permutation: [2, 0, 3, 1],
       kernel_permutation: [0, 3, 1, 2],
       feature_group_size: 4,
       output_permutation: [3, 1, 0, 2]
     ]}
  ]

  def cases do
    Enum.concat([
      for(type <- Case.types(), form <- forms(type), one <- form(type, type, form), do: one),
      for(
        {left, right} <- Case.pairs(),
        left != right,
        one <- form(left, right, {{1, 2, 3}, {1, 2, 2}, []}),
        do: one
      ),
      views(),
      fractions(),
      wide(),
      not_finite()
    ])
  end

  # Every option in a type that MLX convolves, and in one that it does not.
  defp forms(type) when type in [f: 32, s: 32], do: @forms ++ @orders
  defp forms({:c, _}), do: Enum.take_every(@forms, 3)
  # Without padding; see `Emily.Golden.Exclusions.mispadded?/1`.
  defp forms({:f8_e4m3fn, 8}), do: [{{1, 2, 3}, {1, 2, 2}, []}]
  defp forms(_type), do: Enum.take_every(@forms, 4)

  defp form(left, right, {input, kernel, opts}),
    do: conv(numbers(left, input, 4), numbers(right, kernel, 3), opts)

  # Quarters take little room in a file.
  defp numbers({:c, _} = type, shape, most) do
    {re, im} = {numbers({:f, 32}, shape, most), numbers({:f, 32}, shape, most - 1)}
    Nx.as_type(Nx.complex(re, im), type)
  end

  defp numbers({kind, _} = type, shape, most) when kind in [:f, :bf, :f8_e4m3fn],
    do: Nx.as_type(Nx.divide(Values.random({:s, 8}, shape, -4 * most, 4 * most), 4), type)

  defp numbers(type, shape, most), do: Values.random(type, shape, -most, most)

  defp views do
    for type <- [f: 16, f: 32, s: 16, c: 64],
        {input, kernel, opts} <- [Enum.at(@forms, 2), Enum.at(@forms, 11), Enum.at(@forms, 13)],
        x = numbers(type, input, 4),
        k = numbers(type, kernel, 3),
        {x, k} <- [
          {View.transposed(x), k},
          {View.strided(x), View.transposed(k)},
          {View.reversed(x), View.strided(k)}
        ],
        one <- conv(x, k, opts),
        do: one
  end

  # Sums that are rounded.
  defp fractions do
    for type <- [f: 16, bf: 16, f: 32, f: 64, c: 64],
        {input, kernel, opts} <- [Enum.at(@forms, 2), Enum.at(@forms, 3)],
        one <- conv(Values.random(type, input), Values.random(type, kernel), opts),
        do: one
  end

  # Integers whose sums f32 does not hold, though it holds what is left of them.
  defp wide do
    for {type, most} <- [u: 16, s: 16, u: 32, s: 32, s: 64] |> Enum.map(&{&1, most(&1)}),
        x = Values.random(type, {1, 2, 6}, -most, most),
        k = Values.random(type, {2, 2, 3}, -most, most),
        one <- conv(x, k, padding: [{1, 0}]),
        do: one
  end

  defp most({_kind, 16}), do: 30_000
  defp most(_wider), do: 5_000_000

  # BinaryBackend multiplies what is between a dilated kernel's elements by 0 too; here is none.
  defp not_finite do
    for {kind, _} = type when kind in [:f, :bf, :f8_e4m3fn] <- Case.types(),
        numbers <- [
          [1.0, :infinity, 2.0, 3.0, 4.0, 5.0],
          [1.0, 2.0, 3.0, 4.0, :nan, :neg_infinity]
        ],
        x = Nx.reshape(Values.vector(numbers, type), {1, 1, 6}),
        k = Nx.reshape(Values.vector([1.0, 2.0], type), {1, 1, 2}),
        one <- conv(x, k, []),
        do: one
  end

  defp conv(x, k, opts) do
    rank = rank(x)
    ones = List.duplicate(1, rank - 2)
    axes = Enum.to_list(0..(rank - 1))

    defaults = [
      padding: List.duplicate({0, 0}, rank - 2),
      strides: ones,
      input_dilation: ones,
      kernel_dilation: ones,
      feature_group_size: 1,
      batch_group_size: 1,
      input_permutation: axes,
      kernel_permutation: axes,
      output_permutation: axes
    ]

    opts = Keyword.merge(defaults, opts)

    attributes =
      opts |> Map.new() |> Map.update!(:padding, fn list -> Enum.map(list, &Tuple.to_list/1) end)

    Case.record(%{conv: attributes}, [x, k], &Nx.conv(&1, &2, opts))
  end

  defp rank(%View{tensor: tensor}), do: Nx.rank(tensor)
  defp rank(tensor), do: Nx.rank(tensor)
end
