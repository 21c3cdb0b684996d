Code.require_file("../nx/draw.exs", __DIR__)
Code.require_file("drawn_operations.exs", __DIR__)

defmodule Emily.Compiler.DrawnFunction do
  @moduledoc """
  Numerical functions drawn at random: operations on values that are there already, and around them
  conditions, loops, gradients, hooks and calls of Elixir, in each other.

  A function draws what it does while it is traced, when types and shapes are known. It starts from its
  own seed each time and so always draws the same; what it drew is kept as a text.
  """

  import Emily.Nx.Draw, only: [pick: 1, between: 2]
  import Nx.Defn

  alias Emily.Compiler.DrawnOperations

  @parts ~w(cond while range hook call vectorized_cond grad)a
  # The gradients of conditions and loops in each other grow beyond all bounds.
  @differentiable ~w(cond while range)a

  @enforce_keys [:seed, :fun, :arguments]
  defstruct [:seed, :fun, :arguments]

  @doc """
  A function of one container, and that container, of `Nx.BinaryBackend`.

  `vocabulary` is that of `Emily.Compiler.DrawnOperations.call/2`.

  ## Options

    * `:type`, `:shape` - what all arguments have; drawn when absent
    * `:parts` - the constructs besides operations that the function may have
    * `:depth` - how deep these may lie in each other
    * `:scalar` - whether the function gives a float, to have a gradient
  """
  def new(seed, vocabulary, options \\ []) do
    parts = options[:parts] || @parts
    depth = options[:depth] || 2

    arguments =
      seeded({seed, 1}, fn -> arguments(vocabulary, options[:type], options[:shape]) end)

    fun = fn arguments ->
      seeded({seed, 2}, fn ->
        start()

        arguments
        |> values()
        |> scope({vocabulary, parts, depth}, between(4, 14))
        |> result(options[:scalar])
      end)
    end

    %__MODULE__{seed: seed, fun: fun, arguments: arguments}
  end

  @doc """
  A function with a gradient, with respect to arguments of a type and shape.
  """
  def smooth(seed, type, parts \\ @differentiable),
    do: new(seed, :smooth, type: type, shape: {2, 3}, parts: parts, depth: 1, scalar: true)

  @doc "What the function that was traced last in this process has drawn."
  def text, do: Process.get(:drawn_text, []) |> Enum.reverse() |> Enum.join("\n")

  @doc "What hooks have been called with since this was last asked."
  def hooked, do: Process.delete(:drawn_hooks) || []

  # Draws from a generator of its own, and gives the process's generator back.
  defp seeded({seed, part}, draw) do
    before = :rand.export_seed()
    :rand.seed(:exsss, {seed, part, 7})
    result = draw.()
    if before != :undefined, do: :rand.seed(before)
    result
  end

  defp start do
    Process.put(:drawn_text, [])
    Process.put(:drawn_count, 0)
  end

  defp note(text), do: Process.put(:drawn_text, [text | Process.get(:drawn_text)])

  defp named(text, tensor) do
    count = Process.get(:drawn_count)
    Process.put(:drawn_count, count + 1)
    note("v#{count} = #{text} #{inspect({tensor.type, tensor.shape})}")
    {"v#{count}", tensor}
  end

  ## Arguments and results

  defp arguments(vocabulary, type, shape) do
    draw = fn ->
      type = type || type(vocabulary)
      Emily.Nx.Draw.tensor(shape || Emily.Nx.Draw.shape(0..3, 1..4), type)
    end

    pick([
      fn -> draw.() end,
      fn -> {draw.(), draw.()} end,
      fn -> %{a: draw.(), b: {draw.(), draw.()}} end
    ]).()
  end

  defp type(:smooth), do: pick(f: 32, f: 32, f: 64, bf: 16)
  defp type(:exact), do: pick(f: 32, s: 32, s: 64, f: 64)
  defp type(:any), do: pick(f: 32, f: 32, s: 32, s: 64, u: 8, bf: 16, f: 16, f: 64)

  defp values(arguments) do
    for t <- Nx.Defn.Composite.flatten_list([arguments]), do: named("argument", t)
  end

  defp result(values, true), do: sum(values)

  defp result(values, _scalar) do
    [{_, a}, {_, b}, {_, c}] = last = for _ <- 1..3, do: values |> Enum.take(6) |> pick()
    note("result: #{Enum.map_join(last, ", ", &elem(&1, 0))}")
    pick([a, {a, b}, {a, {b, %{c: c}}}, %{x: a, y: {b}, z: Nx.add(Nx.sum(a), Nx.sum(c))}])
  end

  defp sum(values) do
    values |> Enum.take(4) |> Enum.map(fn {_, t} -> Nx.mean(t) end) |> Enum.reduce(&Nx.add/2)
  end

  ## What is drawn

  # The values with `count` more, the newest first.
  defp scope(values, kind, count),
    do: Enum.reduce(1..count, values, fn _, values -> drawn(values, kind, 8) end)

  defp drawn(values, _kind, 0), do: values

  defp drawn(values, {vocabulary, parts, depth} = kind, attempts) do
    {text, tensor} =
      if parts != [] and depth > 0 and between(1, 4) == 1,
        do: part(pick(parts), values, {vocabulary, parts, depth - 1}),
        else: DrawnOperations.call(vocabulary, values)

    if Nx.size(tensor) > 300 or Nx.size(tensor) == 0 or Nx.rank(tensor) > 4,
      do: raise(ArgumentError, "expected some elements, and not many")

    [named(text, tensor) | values]
  rescue
    # It does not fit these values. What it has drawn already stays in the text, and is used by nothing.
    _error in [
      ArgumentError,
      ArithmeticError,
      CompileError,
      FunctionClauseError,
      KeyError,
      RuntimeError
    ] ->
      drawn(values, kind, attempts - 1)
  end

  defn choose(predicate, one, other) do
    if predicate.(), do: one.(), else: other.()
  end

  defn choose(predicate, another, one, other, last) do
    cond do
      predicate.() -> one.()
      another.() -> other.()
      true -> last.()
    end
  end

  defn repeat(state, condition, body) do
    while state, condition.(state) do
      body.(state)
    end
  end

  defn over(state, rows, body) do
    while state, row <- rows do
      body.(state, row)
    end
  end

  # Each branch draws its own values, and sees all that are around it. Shared values are computed before
  # the `cond`, in a branch of it, or between the two, as they are used.
  defp part(:cond, values, kind) do
    {_, like} = pick(values)
    {text, predicate} = DrawnOperations.predicate(values)
    {other_text, other} = DrawnOperations.predicate(values)

    branch = fn ->
      note("branch of #{text}, #{other_text}:")
      inner = scope(values, kind, between(1, 3))
      {a, b} = {hd(inner), pick(inner)}
      {_, a} = DrawnOperations.conform(a, {like.type, like.shape})
      {_, b} = DrawnOperations.conform(b, {{:f, 32}, {}})
      note("end")
      {a, %{b: b}}
    end

    {a, %{b: b}} =
      if pick([true, false]),
        do: choose(predicate, branch, branch),
        else: choose(predicate, other, branch, branch, branch)

    {"cond of #{text}, #{other_text}", if(pick([true, false]), do: a, else: Nx.add(a, b))}
  end

  # A loop sees its own state and what is captured, nothing else.
  defp part(:while, values, kind) do
    carried = for _ <- 1..between(1, 3), do: pick(values)
    tensors = Enum.map(carried, &elem(&1, 1))
    rounds = between(0, 4)
    {first, limit} = pick([{0, rounds}, {Nx.s32(0), rounds}, {0.0, rounds * 1.0}])
    {stop, limited} = pick([{"", & &1}, {" and sums < 100", &while_small(&1)}])

    condition = fn {i, state} -> limited.({Nx.less(i, limit), state}) end

    body = fn {i, state} ->
      inner = state |> Tuple.to_list() |> Enum.map(&named("carried", &1))
      inner = if pick([true, false]), do: [named("round", i) | inner], else: inner
      inner = scope(inner, kind, between(1, 4))
      {Nx.add(i, 1) |> Nx.as_type(i.type), next(state, inner)}
    end

    note("while #{inspect(first)} < #{rounds}#{stop}:")
    condition = fn state -> condition.(state) end
    {_i, state} = repeat({Nx.tensor(first), List.to_tuple(tensors)}, condition, body)
    note("end")

    {"while of #{Enum.map_join(carried, ", ", &elem(&1, 0))}",
     elem(state, between(0, tuple_size(state) - 1))}
  end

  defp part(:range, values, kind) do
    [{name, t}, {other, rows}] = for _ <- 1..2, do: pick(values)
    if Nx.rank(rows) == 0, do: raise(ArgumentError, "no rows")
    note("for row of #{other}:")

    result =
      over(t, rows, fn state, row ->
        inner = scope([named("carried", state), named("row", row)], kind, between(1, 3))
        {_, next} = DrawnOperations.conform(hd(inner), {state.type, state.shape})
        next
      end)

    note("end")
    {"over(#{name}, #{other})", result}
  end

  defp part(:hook, values, _kind) do
    {name, t} = pick(values)
    {other, u} = pick(values)

    case pick([:one, :named, :several]) do
      :one -> {"io_call(#{name})", Nx.io_call(t, &hook/1)}
      :named -> {"io_call(#{name}, :named)", Nx.io_call(t, :named)}
      :several -> {"io_call({#{name}, #{other}})", Nx.io_call({t, %{u: u}}, &hook/1) |> elem(0)}
    end
  end

  defp part(:call, values, _kind) do
    {name, t} = pick(values)
    {other, u} = pick(values)
    template = Nx.to_template(t)

    if pick([true, false]) do
      {"runtime_call(#{name})", Nx.runtime_call(template, t, [by: 2], &outside/2)}
    else
      {_, %{b: result}} =
        Nx.runtime_call({Nx.to_template(u), %{b: template}}, %{a: t, b: {u}}, [by: 3], &outside/2)

      {"runtime_call(#{name}, #{other})", result}
    end
  end

  defp part(:vectorized_cond, values, _kind) do
    {name, t} = pick(values)
    v = Nx.vectorize(t, :x)

    result =
      choose(fn -> Nx.any(Nx.greater(v, 1)) end, fn -> Nx.add(v, 1) end, fn ->
        Nx.multiply(v, 2)
      end)

    {"cond over the vectors of #{name}", Nx.devectorize(result, keep_names: false)}
  end

  defp part(:grad, values, {_vocabulary, parts, depth}) do
    inner = {:smooth, parts -- (parts -- @differentiable), min(depth, 1)}
    {name, t} = pick(values)

    # Of a loop over f64 Nx makes a gradient that begins with f32: compiled it stays so, and the evaluator
    # goes on with f64.
    if t.type != {:f, 32}, do: raise(ArgumentError, "expected f32")
    note("grad of #{name}:")

    result =
      Nx.Defn.grad(t, fn t ->
        [named("variable", t)] |> scope(inner, 3) |> sum()
      end)

    note("end")
    {"grad of #{name}", result}
  end

  defp while_small({going, state}) do
    sum = state |> Tuple.to_list() |> Enum.map(&Nx.sum/1) |> Enum.reduce(&Nx.add/2)
    Nx.logical_and(going, Nx.less(sum, 100))
  end

  # The next state, of what was drawn; a part of it may stay.
  defp next(state, inner) do
    for t <- Tuple.to_list(state), into: [] do
      {_, next} = DrawnOperations.conform(pick(Enum.take(inner, 3)), {t.type, t.shape})
      pick([next, next, next, t])
    end
    |> List.to_tuple()
  end

  @doc "Notes what a hook is called with."
  def hook(container) do
    # The evaluator may call it with the vectorized form of a tensor that is not, of the same elements.
    bits = for t <- Nx.Defn.Composite.flatten_list([container]), do: {t.type, Nx.to_binary(t)}
    Process.put(:drawn_hooks, [bits | Process.get(:drawn_hooks, [])])
  end

  defp outside(%{a: t, b: {u}}, by: by), do: {u, %{b: t |> Nx.multiply(by) |> Nx.as_type(t.type)}}
  defp outside(t, by: by), do: t |> Nx.add(by) |> Nx.as_type(t.type)
end
