# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.CompilerTest do
    # Tests look into the table of all compiled functions, and one hears all events.
    use ExUnit.Case, async: false

    import Nx.Defn

    alias Emily.{Backend, Compiler}
    alias Emily.Compiler.Cache
    alias Nx.Defn.Evaluator

    @moduletag :nx
    @moduletag :native

    doctest Compiler

    defmodule Twice do
      defstruct []
    end

    setup do
      Nx.default_backend(Backend)
      :ok
    end

    # Nothing may go to the evaluator unseen.
    # What is compared bit by bit is compiled with what changes none.
    @native [compiler: Compiler, native_fallback: :raise, passes: :exact]

    defp compiled(fun, arguments, options \\ []),
      do: Nx.Defn.jit_apply(fun, arguments, @native ++ options)

    # Every leaf of a container with its template and its bits.
    defp bits(container) do
      for leaf <- Nx.Defn.Composite.flatten_list([container]),
          do: {Nx.to_template(leaf), Nx.to_binary(leaf)}
    end

    defp assert_same(fun, arguments) do
      expected = Nx.Defn.jit_apply(fun, arguments, compiler: Evaluator)
      result = compiled(fun, arguments)
      assert bits(result) == bits(expected)
      assert bits(compiled(fun, arguments, passes: :none)) == bits(expected)
      result
    end

    defn(softmax(t), do: Nx.exp(t) / Nx.sum(Nx.exp(t)))

    defn counted(x) do
      {_count, x} =
        while {i = 0, x}, i < 10 do
          {i + 1, x * 2 + i}
        end

      x
    end

    defn until_large(x) do
      while x, Nx.sum(x) < 1000 do
        x * 2
      end
    end

    defn nested(x) do
      {_i, _j, x} =
        while {i = 0, j = 0, x}, i < 3 do
          {j, x} =
            while {j, x}, Nx.sum(x) < 10 * j + 50 and j < 20 do
              {j + 1, if(Nx.remainder(j, 2) == 0, do: x + 1, else: x * 1.1)}
            end

          {i + 1, j, x}
        end

      x
    end

    defn over(x) do
      while acc = Nx.tensor(0.0), row <- x do
        acc + Nx.sum(row)
      end
    end

    defn chosen(x) do
      y = Nx.sin(x)
      shared = Nx.exp(x)

      z =
        cond do
          Nx.sum(x) > 100 -> y * 2 + shared
          Nx.sum(y) > 2 -> {shared, y} |> elem(0) |> Nx.log()
          true -> y - x
        end

      {z, %{shared: if(Nx.any(x > 5), do: shared * shared, else: shared)}}
    end

    @table Nx.tensor([1.5, 2.5, 3.5], backend: Nx.BinaryBackend)
    defn with_tensor(x) do
      {_i, x} =
        while {i = 0, x}, i < 3 do
          {i + 1, if(Nx.sum(x) > 20, do: x - @table, else: x + @table * @table)}
        end

      x
    end

    defn(gradient(x),
      do: grad(x, fn x -> x |> Nx.dot(Nx.transpose(x)) |> Nx.tanh() |> Nx.sum() end)
    )

    defn(random(key), do: Nx.Random.normal(key, 0, 1, shape: {3, 2}))

    defn(vectors(x), do: Nx.sum(x * Nx.iota({3}), axes: [0]))

    defn factors(x) do
      {q, r} = Nx.LinAlg.qr(x)
      {values, indices} = Nx.top_k(Nx.abs(r), k: 2)
      {Nx.dot(q, r), values, indices, Nx.cumulative_sum(x, axis: 1), Nx.fft(x)}
    end

    defn(reduced(x),
      do:
        {Nx.reduce(x, 1, fn a, b -> a * b end),
         Nx.window_reduce(x, 0, {2}, fn a, b -> Nx.max(a, b) end)}
    )

    test "functions give what the evaluator gives, bit by bit" do
      x = Nx.tensor([0.5, 1.0, 2.0])

      for fun <- [&softmax/1, &counted/1, &until_large/1, &nested/1, &over/1, &chosen/1],
          scale <- [0.1, 1, 100],
          do: assert_same(fun, [Nx.multiply(x, scale)])

      assert_same(&with_tensor/1, [x])
      assert_same(&gradient/1, [Nx.divide(Nx.iota({3, 4}, type: :f32), 10)])
      assert_same(&random/1, [Nx.Random.key(3)])
      assert_same(&factors/1, [Nx.tensor([[2.0, 1.0], [1.0, 3.0]])])
      assert_same(&reduced/1, [Nx.tensor([3, 1, 2])])
    end

    test "vectorized tensors, names and containers come out as they do elsewhere" do
      x = Nx.tensor([[1, 2, 3], [4, 5, 6]]) |> Nx.vectorize(:rows)
      assert %{vectorized_axes: [rows: 2]} = assert_same(&vectors/1, [x])

      named = Nx.tensor([[1, 2]], names: [:a, :b])
      assert %{names: [:b, :a]} = assert_same(&Nx.transpose/1, [named])
      assert_same(fn x -> %{x: x, both: {x, Nx.add(x, 1), 7}} end, [named])
      assert_same(fn {x, %{y: y}} -> {y, x, x} end, [{named, %{y: Nx.tensor(2)}}])
    end

    test "tensors of other backends are taken, and results are Emily's" do
      x = Nx.tensor([1.0, 2.0], backend: Nx.BinaryBackend)
      assert %{data: %Backend{device: :cpu}} = compiled(&softmax/1, [x], device: :cpu)
      assert %{data: %Backend{}} = compiled(fn -> Nx.iota({3}) end, [])
      assert %{data: %Backend{}} = compiled(fn x -> x end, [x])

      rows = Nx.iota({2, 3}, type: :f32, backend: Nx.BinaryBackend) |> Nx.vectorize(:rows)
      sums = compiled(&vectors/1, [rows])
      assert sums.vectorized_axes == [rows: 2]
      assert Nx.to_flat_list(sums) == [5.0, 14.0]
    end

    defn noisy(x) do
      {_i, x} =
        while {i = 0, x}, i < 3 do
          {i + 1, io_call(x + 1, :each)}
        end

      io_call(x * 2, fn x -> send(self(), {:last, Nx.to_number(x)}) end)
    end

    test "hooks are called in order, in loops too, and can be replaced" do
      me = self()
      hooks = %{each: &send(me, {:each, Nx.to_number(&1)})}
      assert Nx.to_number(compiled(&noisy/1, [0], hooks: hooks)) == 6

      assert {:messages, [each: 1, each: 2, each: 3, last: 6]} = Process.info(me, :messages)

      assert Nx.to_number(compiled(&noisy/1, [1])) == 8
      assert_receive {:last, 8}
    end

    test "only the hooks of the branch that is taken are called" do
      compiled(&signed/1, [-1])
      assert {:messages, [:other]} = Process.info(self(), :messages)
    end

    defn signed(x) do
      if x > 0,
        do: io_call(x, fn _ -> send(self(), :positive) end),
        else: io_call(x, fn _ -> send(self(), :other) end)
    end

    defn called(x) do
      y = Nx.runtime_call(Nx.template({2}, :f32), {x, x + 1}, [by: 2], &outside/2)
      y * 10
    end

    def outside({x, y}, by: by), do: x |> Nx.multiply(y) |> Nx.multiply(by) |> Nx.as_type(:f32)

    test "functions of Elixir are called with tensors, and may compute" do
      x = Nx.tensor([1.0, 2.0])
      assert_same(&called/1, [x])
    end

    test "a function of Elixir that gives something else is refused" do
      fun = fn x ->
        Nx.runtime_call(Nx.template({2}, :f32), x, [], fn _, _ -> Nx.tensor(1) end)
      end

      assert_raise ArgumentError, ~r/expected the function of Nx.runtime_call to give/, fn ->
        compiled(fun, [Nx.tensor(1)])
      end

      assert_raise RuntimeError, "mine", fn ->
        compiled(fn x -> Nx.runtime_call(x, x, [], fn _, _ -> raise "mine" end) end, [
          Nx.tensor(1)
        ])
      end

      assert {:messages, []} = Process.info(self(), :messages)
    end

    test "a block without a native operation runs its default, in branches too" do
      twice = fn x -> Nx.block(%Twice{}, [x], x, fn _block, x -> Nx.add(Nx.sin(x), x) end) end
      assert_same(twice, [Nx.tensor([1.0, 2.0])])
      assert_same(&in_branch/1, [Nx.tensor([1.0, 2.0])])
      assert_same(&in_branch/1, [Nx.tensor([-1.0, 2.0])])
    end

    defn in_branch(x) do
      if Nx.all(x > 0), do: twice(x * 3), else: twice(x) * x
    end

    deftransform twice(x) do
      Nx.block(%Twice{}, [x], x, fn _block, x ->
        Nx.select(Nx.greater(x, 0), Nx.add(Nx.sin(x), x), x)
      end)
    end

    test "what is compiled is kept, by types, shapes and options" do
      Cache.clear()
      me = self()

      fun = fn x ->
        send(me, :traced)
        Nx.add(x, 1)
      end

      for x <- [1, 2, Nx.tensor(3)], do: compiled(fun, [x])
      assert {:messages, [:traced]} = Process.info(me, :messages)
      compiled(fun, [1.0])
      compiled(fun, [Nx.tensor([1])])
      compiled(fun, [1], hooks: %{none: & &1})
      assert {:messages, [:traced, :traced, :traced, :traced]} = Process.info(me, :messages)
      Task.await(Task.async(fn -> compiled(fun, [5]) end))
      assert {:messages, [_, _, _, _]} = Process.info(me, :messages)
    end

    test "old functions make room" do
      Cache.clear()
      for at <- 1..600, do: Cache.fetch({:test, at}, fn -> at end)
      :sys.get_state(Cache)
      assert :ets.info(Cache, :size) <= 512
      assert Cache.fetch({:test, 600}, fn -> :made end) == 600
      assert Cache.fetch({:test, 1}, fn -> :made end) == :made
      Cache.clear()
    end

    test "a function that holds a graph that nobody could write out is compiled each time" do
      Cache.clear()
      shared = Enum.reduce(1..200, 1, fn _, inner -> {inner, inner} end)

      fun = fn x ->
        send(self(), {:traced, tuple_size(shared)})
        Nx.add(x, 1)
      end

      for x <- [1, 2], do: assert(Nx.to_number(compiled(fun, [x])) == x + 1)
      assert {:messages, [{:traced, 2}, {:traced, 2}]} = Process.info(self(), :messages)
      assert :ets.info(Cache, :size) == 0
    end

    test "a function as large as a model is kept" do
      Cache.clear()
      layers = Enum.map(1..20_000, &{&1, &1})

      fun = fn x ->
        send(self(), {:traced, length(layers)})
        Nx.add(x, 1)
      end

      for x <- [1, 2], do: compiled(fun, [x])
      assert {:messages, [{:traced, 20_000}]} = Process.info(self(), :messages)
      Cache.clear()
    end

    test "Nx.Defn.compile finds what was compiled before, by it or by a call" do
      traced = :counters.new(1, [])

      fun = fn x ->
        :counters.add(traced, 1, 1)
        Nx.sin(x)
      end

      templates = [Nx.template({3}, :f32)]
      compiled = for _ <- 1..2, do: Nx.Defn.compile(fun, templates, @native)
      zeros = Nx.tensor([0.0, 0.0, 0.0])

      for call <- [Nx.Defn.jit(fun, @native) | compiled],
          do: assert(bits(call.(zeros)) == bits(zeros))

      assert :counters.get(traced, 1) == 1
    end

    test "Nx.Defn.compile takes its arguments, and refuses others" do
      fun = Nx.Defn.compile(&softmax/1, [Nx.template({3}, :f32)], @native)
      assert bits(fun.(Nx.tensor([1.0, 2.0, 3.0]))) == bits(softmax(Nx.tensor([1.0, 2.0, 3.0])))
      assert_raise ArgumentError, fn -> fun.(Nx.tensor([1.0])) end
    end

    test "donated arguments are given up, others stay" do
      [kept, given] = for _ <- 1..2, do: Nx.iota({1000}, type: :f32)
      sum = compiled(&Nx.add/2, [kept, Nx.donatable(given)])
      assert Emily.Native.presence(given.data.ref) == :deallocated
      assert Emily.Native.presence(kept.data.ref) == :live
      assert bits(sum) == bits(Nx.multiply(kept, 2))

      # What comes out as it came in is the caller's again, and what was read before stays.
      given = Nx.donatable(Nx.add(kept, 1))
      before = Nx.to_binary(given)
      [same, more] = Tuple.to_list(compiled(fn x -> {x, Nx.add(x, 1)} end, [given]))
      refute Nx.donatable?(same)
      assert Nx.to_binary(more) != before
      assert Nx.to_binary(same) == before

      refused = Nx.donatable(Nx.iota({2}))
      assert_raise ArgumentError, fn -> compiled(&Nx.add/2, [refused, Nx.iota({3})]) end
      assert Emily.Native.presence(refused.data.ref) == :live
    end

    test "the memory of donated arguments is computed in" do
      measured =
        for mark <- [&Function.identity/1, &Nx.donatable/1] do
          x = Backend.eval(Nx.iota({1024, 1024}, type: :f32))
          fun = Nx.Defn.compile(&Nx.add(&1, 1), [mark.(Nx.template({1024, 1024}, :f32))], @native)
          Emily.Memory.reset_peak()
          before = Emily.Memory.stats().active
          Backend.eval(fun.(mark.(x)))
          # The tensor is asked for after it was used, or it might be collected before.
          {Emily.Memory.stats().peak - before, Emily.Native.presence(x.data.ref)}
        end

      assert [{more, :live}, {less, :deallocated}] = measured
      assert less < more / 2
    end

    test "a stream of the caller's computes" do
      stream = Emily.Stream.new(:cpu)
      x = Nx.tensor([1.0, 2.0])
      assert bits(compiled(&softmax/1, [x], stream: stream)) == bits(softmax(x))

      with_own = Emily.Stream.with_stream(stream, fn -> compiled(&softmax/1, [x]) end)
      assert bits(with_own) == bits(softmax(x))
    end

    test "errors of values are raised by whoever reads, and errors of shapes at once" do
      singular = compiled(&Nx.LinAlg.cholesky/1, [Nx.tensor([[1.0, 2.0], [2.0, 1.0]])])
      assert_raise Emily.Error, fn -> Nx.to_binary(singular) end

      assert_raise ArgumentError, fn ->
        compiled(&Nx.add/2, [Nx.tensor([1, 2]), Nx.tensor([1, 2, 3])])
      end
    end

    defn growing(x) do
      grad(x, fn x -> x |> rows() |> Nx.sum() end)
    end

    defnp rows(x) do
      while acc = x, row <- x do
        acc * Nx.cos(acc) + Nx.sum(row)
      end
    end

    test "gradients of loops may change their types on the way" do
      # Nx begins with f32 for what the loop makes f64 of.
      x = Nx.tensor([[1.0, 2.0], [0.5, 0.25]], type: :f64)
      expected = Nx.Defn.jit_apply(&growing/1, [x], compiler: Evaluator)
      result = compiled(&growing/1, [x])
      assert Nx.type(result) == Nx.type(expected)
      assert Nx.to_number(Nx.all_close(result, expected, rtol: 1.0e-4)) == 1
    end

    defn many_rounds(x, n) do
      {_i, x, total, _n} =
        while {i = 0, x, total = 0, n}, i < n do
          {i + 1, Nx.remainder(x * 3 + i, 1001), total + Nx.sum(x), n}
        end

      {x, total}
    end

    test "a loop of more rounds than are noted before it is computed" do
      rounds = 1500

      {x, total} =
        Enum.reduce(0..(rounds - 1), {[1, 2, 3], 0}, fn i, {x, total} ->
          {for(x <- x, do: rem(x * 3 + i, 1001)), total + Enum.sum(x)}
        end)

      {found, sum} = compiled(&many_rounds/2, [Nx.tensor([1, 2, 3]), rounds])
      assert {Nx.to_list(found), Nx.to_number(sum)} == {x, total}
    end

    test "conditions in a row do not lie in each other" do
      fun = fn x ->
        Enum.reduce(1..20, x, fn _, y ->
          Nx.Defn.Expr.cond([{Nx.sum(y), Nx.add(y, 1)}], Nx.multiply(y, 2))
        end)
      end

      assert Nx.to_number(compiled(fun, [1])) == 21
    end

    # Each `cond` lies in the one after it.
    defp deep(x, count) do
      Enum.reduce(1..count, x, fn at, y ->
        Nx.Defn.Expr.cond([{Nx.greater(x, at), y}], Nx.multiply(x, at))
      end)
    end

    test "what no program can say goes to the evaluator with one event, or is refused" do
      :telemetry.attach(
        "compiler-test",
        [:emily, :compiler, :fallback],
        &__MODULE__.note/4,
        self()
      )

      wide = Nx.tensor([1.0, 0.0], type: :f64)

      for {fun, arguments, construct, reason, expected} <- [
            {&deep(&1, 20), [3], :cond, "it lies more than 14 deep in others", 60},
            {&Nx.sum(unused(&1)), [wide], :fft, "MLX has {:c, 64} and not {:c, 128}", 1.0}
          ] do
        text = "no program can say #{construct}, because #{reason}"
        assert_raise Emily.Error, ~r/#{text}/, fn -> compiled(fun, arguments) end
        refute_received {:event, _metadata}

        result = Nx.Defn.jit_apply(fun, arguments, compiler: Compiler)
        assert Nx.to_number(result) == expected
        assert_received {:event, %{construct: ^construct, reason: ^reason}}
        refute_received {:event, _metadata}
        # The function is kept, and so what it became is not told again.
        Nx.Defn.jit_apply(fun, arguments, compiler: Compiler)
        refute_received {:event, _metadata}
      end
    after
      :telemetry.detach("compiler-test")
    end

    # The evaluator computes what is needed, and does not need the branch with {:c, 128}.
    defn unused(x) do
      if Nx.sum(x) > 100, do: Nx.real(Nx.fft(x)), else: x
    end

    def note(_event, _measurements, metadata, pid), do: send(pid, {:event, metadata})
  end
end
