defmodule Emily.Compiler.DrawnOperations do
  @moduledoc """
  Operations of Nx on values that are there already, drawn at random.

  A value is `{name, tensor}`. Each draw gives the text of the call and its result, so that what was drawn
  can be read. What does not fit its value raises, and whoever drew it draws again.
  """

  import Emily.Nx.Draw, only: [pick: 1, between: 2, axes: 2, permutation: 1]

  defmodule Twice do
    defstruct []
  end

  @smooth ~w(smooth_one smooth_two products sums shapes constants blocks)a
  @exact ~w(exact_two choices extremes sums shapes joins padding slices indices updates order running
            constants vectors blocks)a
  @any @exact ++
         ~w(one two whole types products windows extremes means functions transforms systems
            random stops)a

  @doc "A call of one of the operations of `:any`, `:smooth` or `:exact`."
  def call(:any, values), do: draw(pick(@any), values)
  def call(:smooth, values), do: draw(pick(@smooth), values)
  # Halves of halves would end beyond what floats hold exactly.
  def call(:exact, values) do
    {text, result} = draw(pick(@exact), values)
    {"bounded(#{text})", bounded(result)}
  end

  defp bounded(%{type: {kind, _}} = t) when kind in [:f, :bf],
    do:
      t |> Nx.clip(-50, 50) |> Nx.multiply(4) |> Nx.floor() |> Nx.divide(4) |> Nx.as_type(t.type)

  defp bounded(t), do: Nx.clip(t, 0, 50)

  @doc "A value of this type and shape, made of another one."
  def conform({name, t}, {type, shape}) do
    t = if t.shape == shape, do: t, else: t |> Nx.sum() |> Nx.broadcast(shape)
    {"conform(#{name}, #{inspect({type, shape})})", Nx.as_type(t, type)}
  end

  @doc "A scalar that is zero or not."
  def predicate(values) do
    {name, t} = pick(values)
    limit = between(-8, 8) / 2

    pick([
      {"any(#{name} > #{limit})", fn -> Nx.any(Nx.greater(t, limit)) end},
      {"sum(#{name}) < #{limit}", fn -> Nx.less(Nx.sum(t), limit) end},
      {"all(#{name})", fn -> Nx.all(t) end}
    ])
  end

  defp draw(:smooth_one, values) do
    {name, t} = pick(values)
    op = pick(~w(sin cos tanh sigmoid negate atan erf asinh)a)
    {"#{op}(#{name})", apply(Nx, op, [t])}
  end

  defp draw(:smooth_two, values), do: two(values, ~w(add subtract multiply)a)

  defp draw(:exact_two, values),
    do: two(values, ~w(add subtract multiply min max equal less greater_equal logical_and)a)

  @comparisons ~w(equal not_equal greater less greater_equal less_equal logical_and logical_or
                  logical_xor)a
  defp draw(:two, values) do
    names = ~w(add subtract multiply divide min max atan2 pow remainder)a
    two(values, pick([names, names, @comparisons]))
  end

  @floats ~w(exp expm1 sigmoid cos sin tan cosh sinh tanh cbrt erf erfc sqrt rsqrt log log1p atan asinh
             abs ceil floor round negate sign is_nan is_infinity logical_not real imag conjugate)a
  defp draw(:one, values) do
    {name, t} = pick(values)
    op = pick(@floats)
    # Of f64 that would be c128, which MLX does not have.
    t = if op == :conjugate and t.type == {:f, 64}, do: Nx.as_type(t, :f32), else: t
    {"#{op}(#{name})", apply(Nx, op, [t])}
  end

  defp draw(:whole, values) do
    type = pick(u: 8, s: 16, s: 32, s: 64, u: 32)
    [{one, a}, {other, b}] = for _ <- 1..2, do: pick(values)
    op = pick(~w(bitwise_and bitwise_or bitwise_xor quotient)a)
    # No division by zero, whose result is the processor's.
    b = b |> Nx.clip(1, 9) |> Nx.as_type(type)
    a = a |> Nx.clip(0, 100) |> Nx.as_type(type)
    {"#{op}(#{one}, #{other}) as #{inspect(type)}", apply(Nx, op, [a, b])}
  end

  defp draw(:types, values) do
    {name, t} = pick(values)
    type = pick(u: 8, s: 32, s: 64, f: 16, bf: 16, f: 32, f: 32, f: 64)
    # Conversions of what does not fit are the processor's.
    {"as_type(clip(#{name}), #{inspect(type)})", t |> Nx.clip(0, 100) |> Nx.as_type(type)}
  end

  defp draw(:choices, values) do
    [{p, predicate}, {one, a}, {other, b}] = for _ <- 1..3, do: pick(values)

    if pick([true, false]),
      do: {"select(#{p} > 0, #{one}, #{other})", Nx.select(Nx.greater(predicate, 0), a, b)},
      else: {"clip(#{one}, -2, 3)", Nx.clip(a, -2, 3)}
  end

  defp draw(:sums, values), do: reduction(values, [:sum])
  defp draw(:means, values), do: reduction(values, ~w(mean product variance)a)

  defp draw(:extremes, values) do
    case pick([:argument, :value]) do
      :value ->
        reduction(values, ~w(reduce_max reduce_min all any)a)

      :argument ->
        {name, t} = pick(values)
        op = pick([:argmax, :argmin])
        options = pick([[], [axis: 0], [axis: -1, keep_axis: true], [tie_break: :high]])
        {"#{op}(#{name}, #{inspect(options)})", apply(Nx, op, [t, options])}
    end
  end

  defp draw(:shapes, values) do
    {name, t} = pick(values)
    rank = Nx.rank(t)
    order = permutation(rank)
    wide = Tuple.insert_at(t.shape, 0, 2)
    mixed = t.shape |> Tuple.to_list() |> Enum.shuffle() |> List.to_tuple()
    some = axes(rank, 0)

    pick([
      {"transpose(#{name}, #{inspect(order)})", fn -> Nx.transpose(t, axes: order) end},
      {"reverse(#{name}, #{inspect(some)})", fn -> Nx.reverse(t, axes: some) end},
      {"reshape(#{name}, #{inspect(mixed)})", fn -> Nx.reshape(t, mixed) end},
      {"flatten(#{name})", fn -> Nx.flatten(t) end},
      {"squeeze(#{name})", fn -> Nx.squeeze(t) end},
      {"broadcast(#{name}, #{inspect(wide)})", fn -> Nx.broadcast(t, wide) end},
      {"new_axis(#{name}, -1)", fn -> Nx.new_axis(t, -1) end}
    ])
    |> made()
  end

  defp draw(:joins, values) do
    {name, t} = pick(values)
    {other, u} = values |> Enum.filter(&(elem(&1, 1).shape == t.shape)) |> pick()
    axis = between(0, Nx.rank(t) - 1)

    pick([
      {"stack(#{name}, #{other})", fn -> Nx.stack([t, u]) end},
      {"concatenate(#{name}, #{other}, #{axis})", fn -> Nx.concatenate([t, u], axis: axis) end}
    ])
    |> made()
  end

  defp draw(:padding, values) do
    {name, t} = pick(values)

    config = for _ <- Nx.axes(t), do: {between(-1, 1), between(0, 2), pick([0, 0, 1])}
    {"pad(#{name}, #{inspect(config)})", Nx.pad(t, 0, config)}
  end

  defp draw(:slices, values) do
    {name, t} = pick(values)
    lengths = for size <- Tuple.to_list(t.shape), do: between(1, size)
    static = for size <- Tuple.to_list(t.shape), do: between(0, size)
    {from, start} = index(values, 3)
    starts = pick([static, List.replace_at(static, 0, start)])
    text = "[#{from} or #{inspect(static)}], #{inspect(lengths)}"

    pick([
      {"slice(#{name}, #{text})", fn -> Nx.slice(t, starts, lengths) end},
      {"put_slice(#{name}, #{text})",
       fn -> Nx.put_slice(t, starts, Nx.slice(t, static, lengths)) end}
    ])
    |> made()
  end

  defp draw(:indices, values) do
    {name, t} = pick(values)
    axis = between(0, Nx.rank(t) - 1)
    size = Nx.axis_size(t, axis)
    {from, index} = index(values, size)
    column = Nx.stack([index, 0]) |> Nx.new_axis(-1)

    pick([
      {"take(#{name}, #{from}, #{axis})", fn -> Nx.take(t, index, axis: axis) end},
      {"gather(#{name}, #{from}, #{axis})", fn -> Nx.gather(t, column, axes: [axis]) end},
      {"take_along_axis(#{name}, argsort)",
       fn -> Nx.take_along_axis(t, Nx.argsort(t, axis: axis, stable: true), axis: axis) end},
      {"#{name}[#{from}]", fn -> t[index] end}
    ])
    |> made()
  end

  defp draw(:updates, values) do
    {name, t} = pick(values)
    {from, index} = index(values, Nx.axis_size(t, 0))
    column = Nx.stack([index, 0]) |> Nx.new_axis(-1)
    updates = Nx.broadcast(Nx.as_type(2, t.type), put_elem(t.shape, 0, 2))
    op = pick([:indexed_add, :indexed_put])
    {"#{op}(#{name}, #{from})", apply(Nx, op, [t, column, updates, [axes: [0]]])}
  end

  defp draw(:order, values) do
    {name, t} = pick(values)
    options = [axis: between(0, Nx.rank(t) - 1), direction: pick([:asc, :desc])]

    pick([
      {"sort(#{name}, #{inspect(options)})", fn -> Nx.sort(t, options) end},
      {"argsort(#{name}, #{inspect(options)})",
       fn -> Nx.argsort(t, [stable: true] ++ options) end},
      {"top_k(#{name})", fn -> elem(Nx.top_k(t, k: 1), 0) end}
    ])
    |> made()
  end

  defp draw(:running, values) do
    {name, t} = pick(values)
    op = pick(~w(cumulative_sum cumulative_min cumulative_max)a)
    options = [axis: between(0, Nx.rank(t) - 1), reverse: pick([true, false])]
    {"#{op}(#{name}, #{inspect(options)})", apply(Nx, op, [t, options])}
  end

  defp draw(:products, values) do
    {name, t} = pick(values)

    pick([
      {"dot(#{name}, transpose)", fn -> Nx.dot(t, Nx.transpose(t)) end},
      {"outer(#{name}, sum)", fn -> Nx.outer(t, Nx.sum(t)) end},
      {"dot([0], [0])", fn -> Nx.dot(t, [0], t, [0]) end}
    ])
    |> made()
  end

  defp draw(:windows, values) do
    {name, t} = pick(values)
    op = pick(~w(window_sum window_max window_min window_mean window_product)a)
    window = Tuple.duplicate(between(1, 2), Nx.rank(t))
    options = pick([[], [padding: :same], [strides: 2, padding: :same]])
    image = t |> Nx.flatten() |> Nx.reshape({1, 1, :auto})
    kernel = Nx.tensor([[[0.5, -1.0]]])

    pick([
      {"#{op}(#{name}, #{inspect(window)}, #{inspect(options)})",
       fn -> apply(Nx, op, [t, window, options]) end},
      {"conv(#{name}, kernel)", fn -> Nx.conv(image, kernel, padding: :same) end}
    ])
    |> made()
  end

  defp draw(:functions, values) do
    {name, t} = pick(values)
    zero = Nx.as_type(0, t.type)
    window = Tuple.duplicate(1, Nx.rank(t))

    fun =
      pick([
        fn a, b -> Nx.add(Nx.multiply(a, 2), b) end,
        fn a, b -> Nx.select(Nx.less(a, b), a, Nx.subtract(b, 1)) end,
        &Nx.max/2
      ])

    pick([
      {"reduce(#{name}, fun)", fn -> Nx.reduce(t, zero, [axes: axes(Nx.rank(t), 1)], fun) end},
      {"window_reduce(#{name}, fun)", fn -> Nx.window_reduce(t, zero, window, fun) end}
    ])
    |> made()
  end

  defp draw(:transforms, values) do
    {name, t} = pick(values)
    op = pick([:fft, :ifft])
    # Of f64 Nx makes a type that MLX does not have.
    t = if t.type == {:f, 64}, do: Nx.as_type(t, :f32), else: t
    {"real(#{op}(#{name}))", Nx.real(apply(Nx, op, [t]))}
  end

  # Matrices that can be solved, whatever the values are.
  defp draw(:systems, values) do
    {name, t} = pick(values)
    side = between(1, 3)
    values = t |> Nx.flatten() |> Nx.as_type(:f32) |> Nx.tanh() |> Nx.sum()
    matrix = Nx.add(Nx.eye(side), Nx.divide(values, 1000))

    pick([
      {"solve(#{name})", fn -> Nx.LinAlg.solve(matrix, Nx.iota({side}, type: :f32)) end},
      {"determinant(#{name})", fn -> Nx.LinAlg.determinant(matrix) end},
      {"cholesky(#{name})",
       fn -> Nx.LinAlg.cholesky(Nx.dot(matrix, Nx.transpose(matrix)) |> Nx.add(Nx.eye(side))) end},
      {"qr(#{name})", fn -> matrix |> Nx.LinAlg.qr() |> elem(1) end},
      {"lu(#{name})", fn -> matrix |> Nx.LinAlg.lu() |> elem(2) end},
      {"invert(#{name})", fn -> Nx.LinAlg.invert(matrix) end},
      {"norm(#{name})", fn -> Nx.LinAlg.norm(matrix) end}
    ])
    |> made()
  end

  defp draw(:random, values) do
    {name, t} = pick(values)
    seed = between(0, 99)
    key = Nx.Random.key(seed) |> Nx.Random.fold_in(index([{name, t}], 50) |> elem(1))

    pick([
      {"uniform(#{seed}, #{name})", fn -> Nx.Random.uniform(key, shape: {3}) |> elem(0) end},
      {"normal(#{seed}, #{name})", fn -> Nx.Random.normal(key, shape: t.shape) |> elem(0) end},
      {"randint(#{seed}, #{name})",
       fn -> Nx.Random.randint(key, 0, 9, shape: {2}) |> elem(0) end},
      {"shuffle(#{seed}, #{name})", fn -> Nx.Random.shuffle(key, t) |> elem(0) end}
    ])
    |> made()
  end

  defp draw(:constants, values) do
    {name, t} = pick(values)
    numbers = for _ <- 1..3, do: between(-8, 8) / 4

    pick([
      {"multiply(#{name}, iota)", fn -> Nx.multiply(t, Nx.iota(t.shape, type: t.type)) end},
      {"add(sum(#{name}), #{inspect(numbers)})", fn -> Nx.add(Nx.sum(t), Nx.tensor(numbers)) end},
      {"subtract(#{name}, #{hd(numbers)})", fn -> Nx.subtract(t, hd(numbers)) end},
      {"multiply(sum(#{name}), eye)", fn -> Nx.multiply(Nx.sum(t), Nx.eye(2, type: t.type)) end}
    ])
    |> made()
  end

  defp draw(:vectors, values) do
    {name, t} = pick(values)
    v = Nx.vectorize(t, :x)
    if Nx.rank(v) == 0, do: raise(ArgumentError, "no vectors")

    {what, fun} =
      pick([
        {"sum", &Nx.sum/1},
        {"plus the mean of all", &Nx.add(&1, Nx.sum(t))},
        {"reduce_max", &Nx.reduce_max/1},
        {"sort", &Nx.sort(&1, axis: -1)},
        {"select", &Nx.select(Nx.greater(&1, 0), &1, 7)},
        {"cumulative_sum", &Nx.cumulative_sum(&1, axis: -1)}
      ])

    {"#{what} of the vectors of #{name}", v |> fun.() |> Nx.devectorize(keep_names: false)}
  end

  # A block that only its default explains, alone and in itself.
  defp draw(:blocks, values) do
    {name, t} = pick(values)
    {other, u} = pick(values)

    pick([
      {"twice(#{name})", fn -> twice(t, &Nx.add(&1, &1)) end},
      {"twice(twice(#{name}))", fn -> twice(t, fn x -> twice(x, &Nx.add(&1, x)) end) end},
      {"block(#{name}, #{other})", fn -> both(t, u) end}
    ])
    |> made()
  end

  defp draw(:stops, values) do
    {name, t} = pick(values)
    {"stop_grad(#{name})", Nx.Defn.Kernel.stop_grad(t)}
  end

  defp twice(t, fun), do: Nx.block(%Twice{}, [t], t, fn _block, t -> fun.(t) end)

  defp both(t, u) do
    sums = {Nx.sum(t), Nx.subtract(Nx.sum(u), Nx.sum(t))}

    {a, b} =
      Nx.block(%Twice{}, [t, u], sums, fn _, t, u ->
        {Nx.sum(t), Nx.subtract(Nx.sum(u), Nx.sum(t))}
      end)

    Nx.add(a, b)
  end

  defp made({text, make}), do: {text, make.()}

  defp two(values, names) do
    {one, a} = pick(values)
    {other, b} = pick(values)
    op = pick(names)
    {"#{op}(#{one}, #{other})", apply(Nx, op, [a, b])}
  end

  defp reduction(values, names) do
    {name, t} = pick(values)
    op = pick(names)
    options = [axes: axes(Nx.rank(t), 1), keep_axes: pick([true, false])]
    {"#{op}(#{name}, #{inspect(options)})", apply(Nx, op, [t, options])}
  end

  # An integer below `size`, computed from a value.
  defp index(values, size) do
    {name, t} = pick(values)

    {"index of #{name}",
     t |> Nx.sum() |> Nx.clip(0, 100) |> Nx.as_type(:s64) |> Nx.remainder(size)}
  end
end
