# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  Code.require_file("agreement.exs", __DIR__)

  defmodule Emily.Compiler.FusionTest do
    @moduledoc """
    What is fused is what is not, to the bit, for the processors that Emily's own tests run on; see
    `Emily.Compiler` for what others may make of it.
    """

    # Settings are of the whole VM.
    use ExUnit.Case, async: false

    import Nx.Defn

    alias Emily.Compiler
    alias Emily.Compiler.{Agreement, Cache, DrawnFunction}

    @moduletag :nx
    @moduletag :native
    @moduletag :tmp_dir
    @moduletag timeout: 600_000

    setup %{tmp_dir: tmp} do
      Nx.default_backend(Emily.Backend)
      id = make_ref()
      event = [:emily, :compiler, :unfused]
      :telemetry.attach(id, event, &__MODULE__.note/4, self())
      kept = System.get_env("EMILY_CACHE")
      System.put_env("EMILY_CACHE", tmp)

      on_exit(fn ->
        :telemetry.detach(id)
        if kept, do: System.put_env("EMILY_CACHE", kept), else: System.delete_env("EMILY_CACHE")
        Application.delete_env(:emily, :cxx)
        Application.delete_env(:emily, :fuse)
        Cache.clear()
      end)
    end

    # Patterns would leave one operation of what is to be fused.
    @exact [compiler: Compiler, passes: :exact]

    def note(_event, _measurements, metadata, pid), do: send(pid, {:unfused, metadata})

    defp fused(fun, arguments, options \\ []) do
      options = @exact ++ [fuse: true, native_fallback: :raise] ++ options
      Nx.Defn.jit_apply(fun, arguments, options)
    end

    defp bits(container) do
      for t <- Nx.Defn.Composite.flatten_list([container]), do: {t.type, t.shape, Nx.to_binary(t)}
    end

    defp same(fun, arguments) do
      expected = bits(Nx.Defn.jit_apply(fun, arguments, @exact))
      assert bits(fused(fun, arguments)) == expected
      refute_received {:unfused, _}
    end

    test "drawn functions and their gradients" do
      for seed <- 5001..5003 do
        Agreement.check(DrawnFunction.new(seed, :any), fuse: true)
        drawn = DrawnFunction.smooth(seed, {:f, 32})
        gradient = %{drawn | fun: &Nx.Defn.value_and_grad(&1, drawn.fun)}
        Agreement.check(gradient, fuse: true)
      end

      refute_received {:unfused, _}
    end

    defn newton(x, rounds) do
      {_i, root, _x} =
        while {i = 0, root = x / 2, x}, i < rounds do
          {i + 1, (root + x / root) * 0.5, x}
        end

      root
    end

    defn decided(x) do
      cond do
        Nx.sum(x) > 10 -> Nx.exp(x) * 2 - 1
        Nx.any(x < 0) -> Nx.sin(x) + Nx.cos(x) * 3
        true -> Nx.sqrt(x) / (1 + x)
      end
    end

    defn told(x) do
      y = io_call(Nx.exp(x) * 2 + 1, :told)
      Nx.log(y) * Nx.sin(y)
    end

    test "loops, branches and hooks" do
      same(&newton(&1, 20), [Nx.tensor([2.0, 3.0, 10.0])])
      for x <- [[5.0, 6.0], [-1.0, 2.0], [0.5, 1.0]], do: same(&decided/1, [Nx.tensor(x)])
      pid = self()
      x = Nx.tensor([1.0, 2.0])
      fused(&told/1, [x], hooks: %{told: &send(pid, {:told, bits(&1)})})
      assert_received {:told, heard}
      assert heard == bits(Nx.add(Nx.multiply(Nx.exp(x), 2), 1))
      same(&told/1, [x])
    end

    defn(gelu(x), do: 0.5 * x * (1 + Nx.erf(x / Nx.sqrt(2))) + Nx.tanh(x))

    test "one function serves all shapes, types and streams", %{tmp_dir: tmp} do
      tensor = fn shape, type ->
        shape |> Nx.iota(type: :f32) |> Nx.subtract(2) |> Nx.divide(3) |> Nx.as_type(type)
      end

      for shape <- [{2}, {4, 3}, {5, 1, 2}], do: same(&gelu/1, [tensor.(shape, :f32)])
      assert length(Path.wildcard(Path.join(tmp, "kernels/*.so"))) == 1

      same(&gelu/1, [tensor.({}, :f32)])
      same(&gelu/1, [tensor.({4, 3}, :bf16)])
      same(&Nx.multiply(Nx.exp(&1), Nx.add(&1, 1)), [tensor.({4, 3}, :c64)])

      x = Nx.iota({50}, type: :f32)
      expected = bits(Nx.Defn.jit_apply(&gelu/1, [x], @exact))

      streams = for _ <- 1..3, do: Emily.Stream.new(:cpu)

      tasks =
        for stream <- streams, _ <- 1..2 do
          Task.async(fn -> for _ <- 1..20, do: bits(fused(&gelu/1, [x], stream: stream)) end)
        end

      for result <- tasks |> Task.await_many(120_000) |> Enum.concat(),
          do: assert(result == expected)
    end

    test "an input that is given up is computed in, and no other one" do
      fun = fn x -> Nx.add(Nx.multiply(Nx.exp(x), 2), 1) end
      # A binary that is read in place, and one that is MLX's own.
      for size <- [8, 100_000] do
        binary = :binary.copy(<<1.5::float-32-native>>, size)
        x = Nx.from_binary(binary, :f32, backend: Emily.Backend)
        y = Nx.multiply(x, 1)
        expected = bits(Nx.Defn.jit_apply(fun, [x], @exact))
        assert bits(fused(fun, [x])) == expected
        assert bits(fused(fun, [y])) == expected
        assert Nx.to_binary(y) == binary
        assert bits(fused(fun, [Nx.donatable(y)])) == expected
        assert Nx.to_binary(x) == binary
      end
    end

    test "without a compiler functions run all the same, with one event each" do
      Application.put_env(:emily, :cxx, "no-such-compiler")
      fun = Nx.Defn.compile(&gelu/1, [Nx.template({3}, :f32)], @exact ++ [fuse: true])
      x = Nx.tensor([1.0, 2.0, 3.0])
      expected = bits(Nx.Defn.jit_apply(&gelu/1, [x], @exact))
      for _ <- 1..5, do: assert(bits(fun.(x)) == expected)
      assert_received {:unfused, %{reason: reason, device: :cpu}}
      assert reason =~ "no-such-compiler cannot be run"
      refute_received {:unfused, _}
    end

    test "functions that are kept see that the configuration changes" do
      Application.put_env(:emily, :cxx, "no-such-compiler")
      run = fn -> Nx.Defn.jit_apply(&gelu/1, [Nx.tensor([1.0, 2.0])], @exact) end
      run.()
      refute_received {:unfused, _}
      Application.put_env(:emily, :fuse, true)
      run.()
      assert_received {:unfused, _}
    end

    test "a compiler that is at work holds nobody else up", %{tmp_dir: tmp} do
      # It waits for what only those who are not held up can write.
      [compiler, go] = for name <- ["slow", "go"], do: Path.join(tmp, name)
      :os.cmd(String.to_charlist("mkfifo #{go}"))
      File.write!(compiler, "#!/bin/sh\nread line < #{go}\nexec g++ \"$@\"\n")
      File.chmod!(compiler, 0o755)
      Application.put_env(:emily, :cxx, compiler)
      x = Nx.tensor([1.0, 2.0])
      stream = Emily.Stream.new(:cpu)
      waiting = Task.async(fn -> bits(fused(&gelu/1, [x], stream: stream)) end)

      # The same stream as well as others compute meanwhile.
      for stream <- [stream, Emily.Stream.new(:cpu)], _ <- 1..20 do
        Emily.Stream.with_stream(stream, fn ->
          assert Nx.to_flat_list(Nx.add(x, 1)) == [2.0, 3.0]
        end)
      end

      assert Task.yield(waiting, 0) == nil
      File.write!(go, "go\n")

      assert Task.await(waiting, 60_000) ==
               bits(Nx.Defn.jit_apply(&gelu/1, [x], @exact))

      refute_received {:unfused, _}
    end

    test "the configuration fuses, too, and explanations count" do
      text = Compiler.explain(&gelu/1, [Nx.template({3}, :f32)], fuse: true, passes: :exact)
      assert text =~ ~r/^fused: \d+ operations of MLX to 1$/m
      refute Compiler.explain(&gelu/1, [Nx.template({3}, :f32)]) =~ "fused:"

      Application.put_env(:emily, :fuse, true)
      Application.put_env(:emily, :cxx, "no-such-compiler")
      Nx.Defn.jit_apply(fn x -> Nx.exp(Nx.sin(x)) end, [Nx.tensor([1.0])], compiler: Compiler)
      assert_received {:unfused, _}
    end
  end
end
