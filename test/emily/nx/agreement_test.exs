# Without Nx there is nothing to agree with.
if Code.ensure_loaded?(Nx) do
  Code.require_file("draw.exs", __DIR__)

  defmodule Emily.Nx.AgreementTest do
    @moduledoc """
    Operations on drawn shapes, types and axes give what `Nx.BinaryBackend` gives.

    A failure says the operation and its tensors; the seed is in the test's name.
    """

    use ExUnit.Case, async: true

    import Emily.Nx.Draw

    @moduletag :nx
    @moduletag :native
    @moduletag timeout: 300_000

    @cases 150

    families = [
      :elementwise_one,
      :elementwise_two,
      :choices,
      :reductions,
      :extremes,
      :shapes,
      :joins,
      :padding,
      :slices,
      :indices,
      :updates,
      :order,
      :running,
      :products,
      :windows,
      :convolutions,
      :vectorized,
      :conversions,
      :functions,
      :transforms,
      :systems,
      :statistics
    ]

    for family <- families, seed <- 1..2 do
      test "#{family}, seed #{seed}" do
        :rand.seed(:exsss, {unquote(seed), 2, 3})

        told =
          for _ <- 1..@cases do
            {what, tensors, fun} = draw(unquote(family))
            agree(what, tensors, fun)
          end

        # Were BinaryBackend to fail at most of them, they would say little.
        assert Enum.count(told, & &1) > div(@cases, 2)
      end
    end

    @of_floats ~w(exp expm1 sigmoid cos sin tan cosh sinh tanh cbrt erf erfc sqrt log1p atan asinh)a
    @of_reals ~w(abs ceil floor round negate sign is_nan is_infinity logical_not real imag phase)a
    @of_integers ~w(bitwise_not count_leading_zeros population_count)a

    defp draw(:elementwise_one) do
      {name, type} =
        pick([
          {pick(@of_floats), real_type()},
          {pick(@of_reals), real_type()},
          {pick(@of_integers), integer_type()},
          {pick(~w(conjugate real imag abs negate exp sin phase)a), any_type()}
        ])

      {name, [tensor(shape(), type)], fn [t] -> apply(Nx, name, [t]) end}
    end

    @arithmetic ~w(add subtract multiply divide min max atan2 equal not_equal greater less
                   greater_equal less_equal logical_and logical_or logical_xor)a
    @whole ~w(bitwise_and bitwise_or bitwise_xor)a

    defp draw(:elementwise_two) do
      {name, types} =
        pick([
          {pick(@arithmetic), [real_type(), real_type()]},
          {pick(~w(add subtract multiply equal not_equal)a), [any_type(), any_type()]},
          {pick(@whole), [integer_type(), integer_type()]}
        ])

      shape = shape()
      shapes = Enum.shuffle([shape, alike(shape)])
      tensors = Enum.zip_with(shapes, types, &tensor/2)
      {name, tensors, fn [a, b] -> apply(Nx, name, [a, b]) end}
    end

    defp draw(:choices) do
      shape = shape()
      type = real_type()

      pick([
        {:select, [tensor(shape, real_type()), tensor(shape, type), tensor(shape, real_type())],
         fn [p, a, b] -> Nx.select(p, a, b) end},
        {:clip, [tensor(shape, type)], fn [t] -> Nx.clip(t, 1, 3) end},
        {:remainder, [tensor(shape, type), Nx.add(Nx.abs(tensor(alike(shape), type)), 1)],
         fn [a, b] -> Nx.remainder(a, b) end},
        {:quotient, [tensor(shape, {:s, 16}), Nx.tensor(pick([-3, -2, 2, 3]))],
         fn [a, b] -> Nx.quotient(a, b) end},
        {:shift, [tensor(shape, integer_type()), indices(alike(shape), 7)],
         fn [a, b] -> {Nx.left_shift(a, b), Nx.right_shift(a, b)} end}
      ])
    end

    defp draw(:reductions) do
      name = pick(~w(sum product reduce_max reduce_min all any mean)a)
      shape = shape(0..4, 1..3)
      axes = axes(tuple_size(shape))
      options = pick([[], [axes: axes], [axes: axes, keep_axes: true], [keep_axes: true]])
      {{name, options}, [tensor(shape, real_type())], fn [t] -> apply(Nx, name, [t, options]) end}
    end

    defp draw(:extremes) do
      name = pick(~w(argmax argmin)a)
      shape = shape(1..4)

      options =
        pick([[], [axis: between(0, tuple_size(shape) - 1)]]) ++
          pick([[], [keep_axis: true]]) ++
          pick([[], [tie_break: :high], [tie_break: :low]]) ++
          pick([[], [type: :s64], [type: :u8]])

      {{name, options}, [tensor(shape, real_type())], fn [t] -> apply(Nx, name, [t, options]) end}
    end

    defp draw(:shapes) do
      shape = shape(1..4)
      rank = tuple_size(shape)
      sizes = Tuple.to_list(shape)
      permutation = permutation(rank)
      wider = Enum.reduce(sizes, {2, 3}, &Tuple.insert_at(&2, tuple_size(&2), &1))
      some = axes(rank, 1)
      units = for {1, axis} <- Enum.with_index(sizes), do: axis
      target = sizes |> Enum.shuffle() |> List.to_tuple()

      {what, fun} =
        pick([
          {{:transpose, permutation}, &Nx.transpose(&1, axes: permutation)},
          {{:reverse, some}, &Nx.reverse(&1, axes: some)},
          {{:reshape, target}, &Nx.reshape(&1, target)},
          {{:squeeze, units}, &Nx.squeeze(&1, axes: units)},
          {{:broadcast, wider}, &Nx.broadcast(&1, wider)},
          {{:broadcast_axes, wider},
           &Nx.broadcast(&1, Tuple.insert_at(shape, rank, 2), axes: Enum.to_list(0..(rank - 1)))},
          {:tile, &Nx.tile(&1, List.duplicate(2, rank))},
          {:flatten_transposed, &Nx.flatten(Nx.transpose(&1))}
        ])

      {what, [tensor(shape, moved_type())], fn [t] -> fun.(t) end}
    end

    defp draw(:joins) do
      shape = shape(1..3)
      axis = between(0, tuple_size(shape) - 1)
      count = between(1, 4)

      if pick([true, false]) do
        tensors =
          for _ <- 1..count, do: tensor(put_elem(shape, axis, between(1, 3)), any_type())

        {{:concatenate, axis}, tensors, &Nx.concatenate(&1, axis: axis)}
      else
        tensors = for _ <- 1..count, do: tensor(shape, any_type())
        {{:stack, axis}, tensors, &Nx.stack(&1, axis: axis)}
      end
    end

    defp draw(:padding) do
      shape = shape(0..3, 2..4)

      config =
        for _ <- 1..tuple_size(shape)//1,
            do: {between(-1, 2), between(-1, 2), pick([0, 0, 1, 2])}

      type = moved_type()

      {{:pad, config}, [tensor(shape, type), tensor({}, type)],
       fn [t, v] -> Nx.pad(t, v, config) end}
    end

    defp draw(:slices) do
      shape = shape(1..4)
      sizes = Tuple.to_list(shape)
      lengths = for size <- sizes, do: between(1, size)
      starts = for size <- sizes, do: between(0, size)
      strides = for _ <- sizes, do: between(1, 3)
      t = tensor(shape, moved_type())

      dynamic =
        for start <- starts, do: Nx.tensor(start, type: integer_type(), backend: Nx.BinaryBackend)

      mixed = fn starts -> List.replace_at(starts, 0, 0) end
      part = tensor(List.to_tuple(lengths), t.type)

      pick([
        {{:slice, starts, lengths, strides}, [t],
         fn [t] -> Nx.slice(t, starts, lengths, strides: strides) end},
        {{:dynamic_slice, starts, lengths, strides}, [t | dynamic],
         fn [t | starts] -> Nx.slice(t, starts, lengths, strides: strides) end},
        {{:mixed_slice, starts, lengths}, [t | dynamic],
         fn [t | starts] -> Nx.slice(t, mixed.(starts), lengths) end},
        {{:put_slice, starts}, [t, part], fn [t, part] -> Nx.put_slice(t, starts, part) end},
        {{:dynamic_put_slice, starts}, [t, part | dynamic],
         fn [t, part | starts] -> Nx.put_slice(t, starts, part) end}
      ])
    end

    defp draw(:indices) do
      shape = shape(1..4)
      rank = tuple_size(shape)
      axis = between(0, rank - 1)
      t = tensor(shape, moved_type())
      axes = axes(rank, 1)
      columns = for axis <- axes, do: indices({3, 2, 1}, elem(shape, axis)) |> Nx.as_type(:s64)

      pick([
        {{:take, axis}, [t, indices(shape(0..2), elem(shape, axis))],
         fn [t, i] -> Nx.take(t, i, axis: axis) end},
        {{:take_along_axis, axis},
         [t, indices(put_elem(shape, axis, between(1, 4)), elem(shape, axis))],
         fn [t, i] -> Nx.take_along_axis(t, i, axis: axis) end},
        {{:gather, axes}, [t, Nx.concatenate(columns, axis: 2)],
         fn [t, i] -> Nx.gather(t, i, axes: axes) end}
      ])
    end

    defp draw(:updates) do
      shape = shape(1..3)
      rank = tuple_size(shape)
      axes = axes(rank, 1)
      type = real_type()
      columns = for axis <- axes, do: indices({4, 1}, elem(shape, axis)) |> Nx.as_type(:s64)
      rest = for axis <- 0..(rank - 1), axis not in axes, do: elem(shape, axis)
      updates = tensor(List.to_tuple([4 | rest]), pick([type, real_type()]))
      name = pick([:indexed_add, :indexed_put])

      {{name, axes}, [tensor(shape, type), Nx.concatenate(columns, axis: 1), updates],
       fn [t, i, u] -> apply(Nx, name, [t, i, u, [axes: axes]]) end}
    end

    defp draw(:order) do
      shape = shape(1..3, 1..6)
      axis = between(0, tuple_size(shape) - 1)
      options = [axis: axis, direction: pick([:asc, :desc])]
      k = between(1, elem(shape, tuple_size(shape) - 1))

      {what, fun} =
        pick([
          {{:sort, options}, &Nx.sort(&1, options)},
          {{:argsort, options}, &Nx.argsort(&1, [stable: true] ++ options)},
          {{:top_k, k}, &elem(Nx.top_k(&1, k: k), 0)},
          {:median, &Nx.median(&1)}
        ])

      {what, [tensor(shape, real_type())], fn [t] -> fun.(t) end}
    end

    defp draw(:running) do
      shape = shape(1..3)
      name = pick(~w(cumulative_sum cumulative_product cumulative_min cumulative_max)a)
      options = [axis: between(0, tuple_size(shape) - 1), reverse: pick([true, false])]
      {{name, options}, [tensor(shape, real_type())], fn [t] -> apply(Nx, name, [t, options]) end}
    end

    defp draw(:products) do
      batch = for _ <- 1..between(0, 1)//1, do: between(1, 3)
      contract = for _ <- 1..between(0, 2)//1, do: between(1, 3)
      side = fn -> for(_ <- 1..between(0, 2)//1, do: between(1, 3)) end
      {a, contract_a} = laid_out(batch, contract, side.())
      {b, contract_b} = laid_out(batch, contract, side.())
      batches = Enum.to_list(0..(length(batch) - 1)//1)

      {{:dot, contract_a, batches, contract_b}, [tensor(a, any_type()), tensor(b, any_type())],
       fn [a, b] -> Nx.dot(a, contract_a, batches, b, contract_b, batches) end}
    end

    defp draw(:windows) do
      name = pick(~w(window_sum window_product window_max window_min window_mean)a)
      shape = shape(1..3, 3..5)
      rank = tuple_size(shape)
      window = for(_ <- 1..rank, do: between(1, 2)) |> List.to_tuple()

      options =
        pick([[], [strides: for(_ <- 1..rank, do: between(1, 2))]]) ++
          pick([
            [],
            [padding: :same],
            [padding: for(_ <- 1..rank, do: {between(0, 1), between(0, 2)})]
          ]) ++
          pick([[], [window_dilations: for(_ <- 1..rank, do: between(1, 2))]])

      {{name, window, options}, [tensor(shape, real_type())],
       fn [t] -> apply(Nx, name, [t, window, options]) end}
    end

    defp draw(:convolutions) do
      spatial = between(1, 2)
      groups = pick([1, 1, 2])
      input = [between(1, 2), groups * between(1, 2) | for(_ <- 1..spatial, do: between(3, 5))]

      kernel = [
        groups * between(1, 2),
        div(Enum.at(input, 1), groups) | for(_ <- 1..spatial, do: between(1, 2))
      ]

      options = [
        feature_group_size: groups,
        strides: between(1, 2),
        padding: pick([:valid, :same, for(_ <- 1..spatial, do: {between(0, 2), between(0, 1)})]),
        input_dilation: between(1, 2),
        kernel_dilation: between(1, 2)
      ]

      tensors = [
        tensor(List.to_tuple(input), pick(f: 32, f: 64, s: 32)),
        tensor(List.to_tuple(kernel), pick(f: 32, f: 64, s: 32))
      ]

      {{:conv, options}, tensors, fn [t, kernel] -> Nx.conv(t, kernel, options) end}
    end

    defp draw(:vectorized) do
      shape = shape(2..4)
      t = tensor(shape, real_type())
      v = fn t -> Nx.vectorize(t, :x) end

      {what, fun} =
        pick([
          {:sum, &Nx.sum(v.(&1))},
          {:argmax, &Nx.argmax(v.(&1))},
          {:reduce_max, &Nx.reduce_max(v.(&1), axes: [0])},
          {:sort, &Nx.sort(v.(&1), axis: 0)},
          {:argsort, &Nx.argsort(v.(&1), axis: -1, direction: :desc, stable: true)},
          {:cumulative_sum, &Nx.cumulative_sum(v.(&1), axis: 0)},
          {:window_sum,
           &Nx.window_sum(v.(&1), List.to_tuple(List.duplicate(1, tuple_size(shape) - 1)))},
          {:add, &Nx.add(v.(&1), Nx.sum(&1))},
          {:reshape, &Nx.reshape(v.(&1), {:auto})},
          {:take, &Nx.take(v.(&1), Nx.tensor([0]))},
          {:slice, &Nx.slice_along_axis(v.(&1), 0, 1)},
          {:select, &Nx.select(Nx.greater(v.(&1), 0), v.(&1), 7)},
          {:pad, &Nx.pad(v.(&1), 1, List.duplicate({1, 0, 0}, tuple_size(shape) - 1))}
        ])

      {{:vectorized, what}, [t], fn [t] -> fun.(t) end}
    end

    defp draw(:conversions) do
      to = any_type()
      from = any_type()
      # Negative numbers that are no unsigned ones depend on the platform.
      t = tensor(shape(), from)
      t = if match?({:u, _}, to) and from != {:c, 64}, do: Nx.abs(t), else: t

      same = %{
        8 => [u: 8, s: 8],
        16 => [u: 16, s: 16, bf: 16, f: 16],
        32 => [u: 32, f: 32],
        64 => [s: 64, f: 64]
      }

      {_kind, bits} = t.type
      cast = pick(same[bits])

      pick([
        {{:as_type, to}, [t], fn [t] -> Nx.as_type(t, to) end},
        {{:bitcast, cast}, [t], fn [t] -> Nx.bitcast(t, cast) end},
        {:to_binary, [t], fn [t] -> Nx.from_binary(Nx.to_binary(t), t.type) end}
      ])
    end

    defp draw(:functions) do
      shape = shape(1..3, 1..3)
      axes = axes(tuple_size(shape), 1)
      t = tensor(shape, pick(s: 32, f: 32, u: 8, s: 64))
      window = List.to_tuple(List.duplicate(1, tuple_size(shape)))

      pick([
        {{:reduce, axes}, [t], fn [t] -> Nx.reduce(t, 1, [axes: axes], &Nx.add/2) end},
        {:reduce, [t],
         fn [t] -> Nx.reduce(t, 0, fn x, acc -> Nx.max(x, acc) |> Nx.min(3) end) end},
        {:window_reduce, [t],
         fn [t] -> Nx.window_reduce(t, 0, window, [padding: :same], &Nx.max/2) end}
      ])
    end

    # Along the last axis: BinaryBackend mixes up axes behind a transformed one, and it pads integers
    # with the bytes of a float.
    defp draw(:transforms) do
      shape = shape(1..3, 2..5)
      size = elem(shape, tuple_size(shape) - 1)
      {name, type} = pick(rfft: {:f, 32}, fft: {:s, 32}, fft: {:c, 64}, ifft: {:f, 32})
      longest = if type == {:s, 32}, do: size, else: 6
      options = pick([[], [length: between(2, longest)]])
      {{name, options}, [tensor(shape, type)], fn [t] -> apply(Nx, name, [t, options]) end}
    end

    # Systems with one solution that is not too sensitive: the diagonal outweighs the rest.
    defp draw(:systems) do
      size = between(1, 4)
      batch = for _ <- 1..between(0, 1)//1, do: 2
      heavy = Nx.multiply(Nx.eye(size, backend: Nx.BinaryBackend), 40)
      matrix = tensor(List.to_tuple(batch ++ [size, size]), pick(f: 32, f: 64, s: 32))
      a = Nx.add(matrix, heavy)
      b = tensor(List.to_tuple(batch ++ [size, 2]), pick(f: 32, s: 32))
      symmetric = Nx.add(a, Nx.LinAlg.adjoint(a))

      pick([
        {:solve, [a, b], fn [a, b] -> Nx.LinAlg.solve(a, b) end},
        {:invert, [a], fn [a] -> Nx.LinAlg.invert(a) end},
        {:determinant, [a], fn [a] -> Nx.LinAlg.determinant(a) end},
        {:cholesky, [symmetric], fn [a] -> Nx.LinAlg.cholesky(a) end},
        {:lu, [a], fn [a] -> Nx.LinAlg.lu(a) end},
        # In f32 Nx's own lower triangle is not quite 0.
        {:qr, [Nx.as_type(a, :f64)], fn [a] -> Nx.LinAlg.qr(a) end},
        {:triangular_solve, [Nx.tril(a), b], fn [a, b] -> Nx.LinAlg.triangular_solve(a, b) end},
        {:triangular_solve_upper, [Nx.triu(a), b],
         fn [a, b] -> Nx.LinAlg.triangular_solve(a, b, lower: false) end},
        {:triangular_solve_transposed, [Nx.tril(a), b],
         fn [a, b] -> Nx.LinAlg.triangular_solve(a, b, transform_a: :transpose) end},
        {:singular_values, [a], fn [a] -> elem(Nx.LinAlg.svd(a), 1) end},
        {:eigenvalues, [symmetric], fn [a] -> elem(Nx.LinAlg.eigh(a), 0) end},
        {:norm, [a], fn [a] -> Nx.LinAlg.norm(a) end}
      ])
    end

    defp draw(:statistics) do
      shape = shape(2..3, 2..4)
      t = tensor(shape, real_type())
      axes = axes(tuple_size(shape), 1)

      {what, fun} =
        pick([
          {:variance, &Nx.variance(&1, axes: axes)},
          {:standard_deviation, &Nx.standard_deviation(&1)},
          {:logsumexp, &Nx.logsumexp(&1, axes: axes)},
          {:mode, &Nx.mode(&1)},
          {:weighted_mean, &Nx.weighted_mean(&1, Nx.add(Nx.abs(&1), 1))},
          {:diff, &Nx.diff(&1)},
          {:outer, &Nx.outer(&1, &1)},
          {:tril, &Nx.tril(&1)},
          {:take_diagonal, &Nx.take_diagonal(&1)},
          {:all_close, &Nx.all_close(&1, Nx.add(&1, 1.0e-9))},
          {:one_hot, &Nx.equal(Nx.new_axis(&1, -1), Nx.iota({3}))},
          {:pad_outer, &Nx.pad_outer(&1, :reflect, List.duplicate({1, 1}, tuple_size(shape)))}
        ])

      {{what, axes}, [t], fn [t] -> fun.(t) end}
    end

    # A shape whose first axes are the batch, with the axes to contract among the others.
    defp laid_out(batch, contract, rest) do
      marked = Enum.map(contract, &{&1, true}) ++ Enum.map(rest, &{&1, false})
      {contracted, free} = Enum.split_with(Enum.with_index(marked), fn {{_, yes}, _} -> yes end)

      # The axes to contract keep their order among themselves, so that both sides pair up.
      mixed =
        weave(Enum.map(contracted, &elem(elem(&1, 0), 0)), Enum.map(free, &elem(elem(&1, 0), 0)))

      sizes = batch ++ Enum.map(mixed, &elem(&1, 0))
      axes = for {{_, true}, index} <- Enum.with_index(mixed), do: length(batch) + index
      {List.to_tuple(sizes), axes}
    end

    defp weave([], free), do: Enum.map(free, &{&1, false})
    defp weave(contracted, []), do: Enum.map(contracted, &{&1, true})

    defp weave([one | contracted], [other | free]) do
      if pick([true, false]),
        do: [{one, true} | weave(contracted, [other | free])],
        else: [{other, false} | weave([one | contracted], free)]
    end
  end
end
