# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Compiler.PassesTest do
    use ExUnit.Case, async: true

    import Nx.Defn

    alias Emily.{Compiler, Native}

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    defn weighted(x, w) do
      {_i, x, _unused, _w} =
        while {i = 0, x, unused = 1.0, w}, i < 3 do
          {i + 1, x + Nx.sum(Nx.exp(w)) + Nx.sum(Nx.exp(w)), unused * 2, w}
        end

      if Nx.sum(x) > 0, do: x, else: -x
    end

    defn noted(x) do
      {x, _} = io_call({Nx.cos(x), Nx.sin(x)}, :note)
      x
    end

    @arguments [Nx.template({2}, :f32), Nx.template({3}, :f32)]

    test "each pass works alone, and has its name in the documentation" do
      x = Nx.tensor([0.1, -0.3])
      w = Nx.tensor([0.5, 1.0, 2.0])

      run =
        &Nx.Defn.jit_apply(fn x, w -> weighted(x, w) end, [x, w], compiler: Compiler, passes: &1)

      expected = Nx.to_binary(run.(:none))
      {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(Compiler)

      for pass <- Native.program_passes() do
        assert Nx.to_binary(run.([pass])) == expected
        assert documentation =~ "* `#{inspect(pass)}` - "
      end

      assert Nx.to_binary(run.(:all)) == expected
    end

    defn(projections(x, a, b), do: {Nx.dot(x, a), Nx.dot(x, b)})

    test "matrices that come in again are multiplied together, and others are not mixed up with them" do
      {x, other} = {Nx.iota({2, 3}, type: :f32), Nx.tensor([[0.5, 1.0, -1.0]])}
      [a, b, c] = for size <- 4..6, do: Nx.multiply(Nx.iota({3, size}, type: :f32), size)
      compiled = Nx.Defn.jit(&projections/3, compiler: Compiler)

      for x <- [x, x, other, x], {a, b} <- [{a, b}, {a, b}, {b, c}, {b, c}, {c, c}] do
        {left, right} = compiled.(x, a, b)
        assert Nx.to_number(Nx.all_close(left, Nx.dot(x, a))) == 1
        assert Nx.to_number(Nx.all_close(right, Nx.dot(x, b))) == 1
      end
    end

    defn never(x, singular) do
      {_i, x, _singular} =
        while {i = 5, x, singular}, i < 3 do
          {i + 1, x + Nx.sum(Nx.LinAlg.cholesky(singular)), singular}
        end

      x
    end

    test "what fails in a loop that never runs does not fail" do
      singular = Nx.tensor([[1.0, 2.0], [2.0, 1.0]])
      result = Nx.Defn.jit_apply(&never/2, [Nx.tensor(1.5), singular], compiler: Compiler)
      assert Nx.to_number(result) == 1.5
    end

    defn noting(x) do
      {_i, x, _dead} =
        while {i = 0, x, dead = 10}, i < 2 do
          {i + 1, x * 2, io_call(dead + 1, :note)}
        end

      x
    end

    test "hooks of what no result depends on are called, in their order" do
      me = self()
      options = [compiler: Compiler, hooks: %{note: &send(me, {:noted, Nx.to_number(&1)})}]
      assert Nx.to_number(Nx.Defn.jit_apply(&noting/1, [3], options)) == 12
      assert {:messages, [noted: 11, noted: 12]} = Process.info(me, :messages)
    end

    test "programs in programs are explained further in" do
      text = Compiler.explain(&weighted/2, @arguments)
      [_, _, found | _] = lines = String.split(text, "\n")
      assert found =~ ~r/^passes: loop_invariants \d+, common_subexpressions \d+, dead_code \d+$/

      [before, later] = text |> String.split("\n\n") |> Enum.drop(1)
      assert before =~ ~r/\n  %\d+ s32, %\d+ f32\[2\], %\d+ f32, %\d+ f32\[3\] = while /
      assert later =~ ~r/\n  %\d+ s32, %\d+ f32\[2\] = while /
      assert "    condition " <> _ = Enum.find(lines, &(&1 =~ "condition"))

      # The exponential is computed once, and before the loop.
      assert length(String.split(before, "= exp")) == 3
      assert [earlier, _loop] = String.split(later, "while ")
      assert length(String.split(later, "= exp")) == 2
      assert earlier =~ "= exp %1"
    end

    test "the text is that of the documentation" do
      fun = fn x -> Nx.divide(Nx.exp(x), Nx.sum(Nx.exp(x))) end
      text = Compiler.explain(fun, [Nx.template({3}, :f32)])
      indented = String.replace(text, ~r/^(?=.)/m, "    ")
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Compiler)
      {_, _, _, %{"en" => documentation}, _} = List.keyfind(docs, {:function, :explain, 3}, 0)
      assert documentation =~ indented
    end

    test "without passes both programs are the same" do
      text = Compiler.explain(&weighted/2, @arguments, passes: :none)

      assert [
               "before: " <> count,
               "after: " <> count,
               "passes: nothing to do",
               "patterns: none" | _
             ] = String.split(text, "\n")

      assert [_, "before" <> program, "after" <> later] = String.split(text, "\n\n")
      assert program == later
    end

    test "a flowchart names each box once, and its arrows lead between boxes" do
      chart = Compiler.explain(&weighted/2, @arguments, format: :mermaid)
      assert ["flowchart TD" | lines] = chart |> String.split("\n") |> Enum.map(&String.trim/1)

      boxes =
        for line <- lines, [_, id] <- [Regex.run(~r/^(?:subgraph )?(\w+) ?[(\[]/, line)], do: id

      assert boxes == Enum.uniq(boxes)
      assert Enum.count(lines, &(&1 == "end")) == Enum.count(lines, &(&1 =~ "subgraph"))

      arrows =
        for line <- lines,
            [_, from, to] <- [Regex.run(~r/^(\w+) -\.?-> (\w+)$/, line)],
            do: {from, to}

      assert length(arrows) > 20
      assert Enum.all?(arrows, fn {from, to} -> from in boxes and to in boxes and from != to end)
      assert length(boxes) + length(arrows) + Enum.count(lines, &(&1 == "end")) == length(lines)
    end

    test "functions of elements are explained, and hooks stay" do
      fun = fn x -> Nx.reduce(x, 0, fn a, b -> Nx.add(Nx.multiply(a, a), b) end) end
      text = Compiler.explain(fun, [Nx.template({3}, :s32)])
      assert text =~ "    function %0 s32, %1 s32\n      %2 s32 = multiply %0, %0\n"
      assert Compiler.explain(fun, [Nx.template({3}, :s32)], format: :mermaid) =~ ~s(["function"])

      text = Compiler.explain(&noted/1, [Nx.template({}, :f32)], hooks: %{note: & &1})
      assert text =~ "after: 3 operations (1 call, 1 cos, 1 sin)"
    end

    test "what cannot be explained is refused" do
      assert_raise ArgumentError, "expected :format to be :text or :mermaid, got: :svg", fn ->
        Compiler.explain(&Nx.sin/1, [1.0], format: :svg)
      end

      assert_raise Emily.Error, ~r/no program can say fft/, fn ->
        Compiler.explain(&Nx.fft/1, [Nx.template({3}, :f64)])
      end
    end

    # Collecting garbage counts as work; a hundred times would be the square. The native part has a test
    # of its own, in Rust.
    test "ten times as large a function takes about ten times as much work to compile" do
      work = fn length ->
        fun = fn x -> Enum.reduce(1..length, x, &Nx.add(&2, Nx.multiply(x, &1))) end
        {:reductions, before} = Process.info(self(), :reductions)
        Nx.Defn.compile(fun, [Nx.template({4}, :f32)], compiler: Compiler)
        {:reductions, later} = Process.info(self(), :reductions)
        later - before
      end

      assert work.(3_300) < 25 * work.(330)
    end
  end
end
