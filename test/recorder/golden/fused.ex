defmodule Emily.Golden.Fused do
  @moduledoc """
  Cases of operations that stand for several, as models write them in Nx.

  The formulas are computed in `f64` and converted once, since that is what one kernel promises.
  """

  alias Emily.Golden.{Case, Values, View}

  @types [f: 32, f: 16, bf: 16]

  def cases do
    for type <- @types,
        one <-
          softmax(type) ++
            norms(type) ++
            activations(type) ++ rotary(type) ++ rope(type) ++ attention(type) ++ dot_add(type),
        do: one
  end

  # A tensor as it is, and views of which neighbours are not neighbours in memory.
  defp layouts(x), do: [x, View.transposed(x), View.strided(x)]

  defp softmax(type) do
    for x <- [
          Values.vector([1, 2, :neg_infinity, 3], type) | layouts(Values.random(type, {3, 21}))
        ],
        one <- record("softmax", [x], &softmax_of/1),
        do: one
  end

  defp softmax_of(x) do
    powers = Nx.exp(Nx.subtract(x, Nx.reduce_max(x, axes: [-1], keep_axes: true)))
    Nx.divide(powers, Nx.sum(powers, axes: [-1], keep_axes: true))
  end

  defp norms(type) do
    gamma = Values.random(type, {19}, -2, 2)
    beta = Values.random(type, {19}, -3, 3)
    heads = Values.random(type, {4, 19}, -2, 2)

    for shape <- [{19}, {5, 19}, {2, 4, 19}],
        x <- layouts(Values.random(type, shape)),
        one <-
          record(%{layer_norm: %{epsilon: 1.0e-5}}, [x, gamma, beta], &layer_norm/3) ++
            record(%{rms_norm: %{epsilon: 1.0e-6}}, [x], &rms_norm/1) ++
            record(%{rms_norm: %{epsilon: 1.0e-6}}, [x, gamma], &rms_norm/2) ++
            if(shape == {2, 4, 19},
              do: record(%{rms_norm: %{epsilon: 1.0e-6}}, [x, heads], &rms_norm/2),
              else: []
            ),
        do: one
  end

  defp layer_norm(x, gamma, beta) do
    off = Nx.subtract(x, mean(x))
    scale = Nx.rsqrt(Nx.add(mean(Nx.multiply(off, off)), 1.0e-5))
    off |> Nx.multiply(scale) |> Nx.multiply(gamma) |> Nx.add(beta)
  end

  defp rms_norm(x), do: Nx.multiply(x, Nx.rsqrt(Nx.add(mean(Nx.multiply(x, x)), 1.0e-6)))
  defp rms_norm(x, gamma), do: Nx.multiply(rms_norm(x), gamma)

  defp mean(x), do: Nx.mean(x, axes: [-1], keep_axes: true)

  defp activations(type) do
    numbers = Values.vector([0.0, -0.0, 1.0, -1.0, 4.0, -4.0, :nan], type)

    for {name, fun} <- [silu: &silu/1, gelu: &gelu/1, gelu_tanh: &gelu_tanh/1],
        x <- [numbers | layouts(Values.random(type, {3, 21}, -6, 6))],
        op = %{activation: %{function: name}},
        one <-
          record(op, [x], fun) ++ record(op, [x, x], &Nx.multiply(fun.(&1), &2)),
        do: one
  end

  defp silu(x), do: Nx.multiply(x, Nx.sigmoid(x))

  defp gelu(x),
    do: x |> Nx.divide(Nx.sqrt(2)) |> Nx.erf() |> Nx.add(1) |> Nx.multiply(x) |> Nx.divide(2)

  defp gelu_tanh(x) do
    inner = Nx.add(x, Nx.multiply(0.044715, Nx.pow(x, 3)))
    tanh = Nx.tanh(Nx.multiply(:math.sqrt(2 / :math.pi()), inner))
    Nx.divide(Nx.multiply(x, Nx.add(1, tanh)), 2)
  end

  defp rotary(type) do
    for {shape, table} <- [{{6}, {6}}, {{2, 3, 4, 10}, {4, 10}}, {{2, 3, 4, 10}, {3, 1, 10}}],
        x <- layouts(Values.random(type, shape)),
        angles = Values.random({:f, 64}, table, -3, 3),
        cosines = Nx.as_type(Nx.cos(angles), type),
        sines = Nx.as_type(Nx.sin(angles), type),
        gamma = Values.random(type, {elem(shape, tuple_size(shape) - 1)}, -2, 2),
        one <-
          record("rotary_embedding", [x, cosines, sines], &rotary_of/3) ++
            normal_rotary(type, [x, gamma, cosines, sines]),
        do: one
  end

  # In narrow types it is rounded in between, and by BinaryBackend otherwise than by the processor.
  defp normal_rotary({:f, 32}, inputs) do
    op = %{rms_norm_rotary_embedding: %{epsilon: 1.0e-6}}
    record(op, inputs, &rotary_of(rms_norm(&1, &2), &3, &4))
  end

  defp normal_rotary(_narrow, _inputs), do: []

  defp rotary_of(x, cosines, sines) do
    size = Nx.axis_size(x, -1)
    half = div(size, 2)
    first = Nx.slice_along_axis(x, 0, half, axis: -1)
    second = Nx.slice_along_axis(x, half, half, axis: -1)
    rotated = Nx.concatenate([Nx.negate(second), first], axis: -1)
    Nx.add(Nx.multiply(x, cosines), Nx.multiply(rotated, sines))
  end

  # In narrow types MLX rounds the angles' cosines and sines.
  defp rope({:f, 32} = type) do
    frequencies = Nx.tensor([1.0, 2.5, 10.0], type: type)

    for shape <- [{2, 3, 6}, {2, 3, 4, 10}],
        x <- layouts(Values.random(type, shape)),
        offset <- [Nx.tensor(0, type: :s32), Nx.tensor([5, 2], type: :s32)],
        traditional <- [false, true],
        {base, given} <- [{100.0, []}, {nil, [frequencies]}],
        op = %{rope: %{dims: 6, traditional: traditional, base: base, scale: 0.5}},
        one <- record(op, [x, offset | given], &rope_of(op.rope, &1), :list),
        do: one
  end

  defp rope(_narrow), do: []

  defp rope_of(%{traditional: traditional, base: base}, [x, offset | given]) do
    {count, last} = {Nx.axis_size(x, -2), Nx.rank(x) - 1}
    positions = Nx.add(Nx.iota({1, count}, type: :f64), Nx.reshape(offset, {:auto, 1}))
    pairs = Nx.iota({3}, type: :f64)

    speeds =
      if base,
        do: Nx.pow(Nx.tensor(base, type: :f64), Nx.divide(pairs, -3)),
        else: Nx.divide(1, hd(given))

    angles = Nx.multiply(Nx.new_axis(Nx.multiply(positions, 0.5), -1), speeds)
    {rows, ^count, 3} = Nx.shape(angles)

    angles =
      Nx.reshape(angles, List.to_tuple([rows] ++ List.duplicate(1, last - 2) ++ [count, 3]))

    {cosines, sines} = {Nx.cos(angles), Nx.sin(angles)}
    turned = Nx.slice_along_axis(x, 0, 6, axis: last)
    pairs = if traditional, do: neighbours(turned), else: halves(turned)
    {first, second} = pairs
    first_turned = Nx.subtract(Nx.multiply(first, cosines), Nx.multiply(second, sines))
    second_turned = Nx.add(Nx.multiply(first, sines), Nx.multiply(second, cosines))
    rest = Nx.axis_size(x, last) - 6
    others = if rest > 0, do: [Nx.slice_along_axis(x, 6, rest, axis: last)], else: []

    turned =
      if traditional,
        do: [first_turned, second_turned] |> Nx.stack(axis: -1) |> Nx.reshape(turned.shape),
        else: Nx.concatenate([first_turned, second_turned], axis: last)

    Nx.concatenate([turned | others], axis: last)
  end

  defp halves(x),
    do: {Nx.slice_along_axis(x, 0, 3, axis: -1), Nx.slice_along_axis(x, 3, 3, axis: -1)}

  defp neighbours(x) do
    {Nx.slice_along_axis(x, 0, 5, axis: -1, strides: 2),
     Nx.slice_along_axis(x, 1, 5, axis: -1, strides: 2)}
  end

  # Batch, heads, heads of the key, positions, positions of the key, features.
  @attentions [
    {1, 2, 2, 1, 1, 3},
    {2, 4, 2, 1, 9, 8},
    {1, 3, 3, 17, 17, 10},
    {1, 4, 1, 5, 20, 16}
  ]

  defp attention(type) do
    for {b, h, k, t, s, d} <- @attentions,
        query <- layouts(Values.random(type, {b, h, t, d})),
        key = Values.random(type, {b, k, s, d}, -2, 2),
        value = Values.random(type, {b, k, s, d}, -3, 3),
        mask <- [nil, causal(t, s), Values.random(type, {b, 1, t, s})],
        one <-
          record(
            %{attention: %{scale: 0.5}},
            Enum.reject([query, key, value, mask], &is_nil/1),
            &attend/1,
            :list
          ) ++ sinking(type, h, [query, key, value, mask]),
        do: one
  end

  defp sinking(type, heads, [%Nx.Tensor{} | _others] = inputs) do
    inputs = Enum.reject(inputs, &is_nil/1) ++ [Values.random(type, {heads}, -2, 4)]
    record(%{attention: %{scale: 0.5, sinks: true}}, inputs, &attend_with_sinks/1, :list)
  end

  # Layouts of the query are no others with sinks.
  defp sinking(_type, _heads, [_view | _others]), do: []

  # The last position of the query sees all.
  defp causal(t, s), do: Nx.as_type(Nx.tril(Nx.broadcast(1, {t, s}), k: s - t), {:u, 8})

  defp attend([query, key, value | mask]) do
    group = div(Nx.axis_size(query, 1), Nx.axis_size(key, 1))
    [key, value] = for x <- [key, value], do: repeated(x, group)
    scores = Nx.multiply(Nx.dot(query, [3], [0, 1], key, [3], [0, 1]), 0.5)
    weights = scores |> masked(mask) |> softmax_of()
    Nx.dot(weights, [3], [0, 1], value, [2], [0, 1])
  end

  defp attend_with_sinks([query, key, value | more]) do
    {mask, [sinks]} = Enum.split(more, -1)
    group = div(Nx.axis_size(query, 1), Nx.axis_size(key, 1))
    [key, value] = for x <- [key, value], do: repeated(x, group)
    scores = Nx.multiply(Nx.dot(query, [3], [0, 1], key, [3], [0, 1]), 0.5)
    scores = masked(scores, mask)
    {b, h, t, s} = scores.shape
    sinks = sinks |> Nx.reshape({1, h, 1, 1}) |> Nx.broadcast({b, h, t, 1})
    weights = softmax_of(Nx.concatenate([scores, sinks], axis: 3))
    weights = Nx.slice_along_axis(weights, 0, s, axis: 3)
    Nx.dot(weights, [3], [0, 1], value, [2], [0, 1])
  end

  defp repeated(x, group) do
    {b, k, s, d} = x.shape
    x |> Nx.new_axis(2) |> Nx.broadcast({b, k, group, s, d}) |> Nx.reshape({b, k * group, s, d})
  end

  defp masked(scores, []), do: scores

  defp masked(scores, [%{type: {:u, 8}} = mask]),
    do: Nx.select(Nx.broadcast(mask, scores.shape), scores, -3.0e38)

  defp masked(scores, [mask]), do: Nx.add(scores, mask)

  defp dot_add(type) do
    op = %{dot_add: %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}}

    for {m, k, n} <- [{1, 3, 2}, {1, 40, 21}, {12, 33, 18}],
        a <- layouts(Values.random(type, {m, k}, -2, 2)),
        b <- layouts(Values.random(type, {k, n}, -2, 2)),
        c <- [Values.random(type, {n}), Values.random(type, {m, n})],
        one <- record(op, [a, b, c], &Nx.add(Nx.dot(&1, &2), &3)),
        do: one
  end

  defp record(op, inputs, fun), do: record(op, inputs, &apply(fun, &1), :list)

  defp record(op, [first | _] = inputs, fun, :list) do
    type = tensor(first).type

    Case.record_list(op, inputs, fn inputs ->
      inputs |> Enum.map(&wide/1) |> fun.() |> Nx.as_type(type)
    end)
  end

  defp tensor(%Nx.Tensor{} = tensor), do: tensor
  defp tensor(%{tensor: tensor}), do: tensor

  defp wide(%{type: {:u, 8}} = mask), do: mask
  defp wide(tensor), do: Nx.as_type(tensor, {:f, 64})
end
