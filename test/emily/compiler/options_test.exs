# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Compiler.OptionsTest do
    # One test changes the application's configuration.
    use ExUnit.Case, async: false

    alias Emily.{Backend, Compiler}
    alias Emily.Compiler.Cache

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Backend)
      :ok
    end

    test "native: false, or the configuration, has the evaluator call the backend" do
      x = Nx.tensor([1.0, 2.0])
      fun = fn x -> x |> Nx.add(1) |> Nx.multiply(2) end
      result = Nx.Defn.jit_apply(fun, [x], compiler: Compiler, native: false)
      assert Nx.to_list(result) == [4.0, 6.0]

      # A function that is compiled already knows of it, too.
      Cache.clear()
      compile = fn -> Nx.Defn.jit_apply(fun, [x], compiler: Compiler) end
      kept = fn -> :ets.select(Cache, [{{:_, :"$1", :_}, [], [:"$1"]}]) end
      compile.()
      assert [%Compiler.Function{}] = kept.()

      for native <- [false, true, false] do
        Application.put_env(:emily, :native, native)
        assert Nx.to_list(compile.()) == [4.0, 6.0]
        assert Enum.frequencies_by(kept.(), &is_function/1) == %{true: 1, false: 1}
      end

      Application.put_env(:emily, :native, :yes)
      text = "expected config :emily, native: to be true or false, got: :yes"
      assert_raise ArgumentError, text, compile
    after
      Application.delete_env(:emily, :native)
      Cache.clear()
    end

    test "partitions, backends and options" do
      assert [one, other] = Compiler.__partitions_options__(max_concurrency: 2, device: :cpu)
      assert one[:stream].device == :cpu and one[:stream] != other[:stream]
      assert Compiler.__partitions_options__([]) == [[]]
      assert Nx.Defn.to_backend(compiler: Compiler, device: :cpu) == {Backend, device: :cpu}

      assert Nx.to_number(Nx.Defn.jit_apply(&Nx.add/2, [1, 2], compiler: Compiler, mode: :train)) ==
               3

      for {options, text} <- [
            {[device: :tpu], "expected :device to be :cpu or :gpu, got: :tpu"},
            {[native: 1], "expected :native to be true or false, got: 1"},
            {[fuse: 1], "expected :fuse to be true or false, got: 1"},
            {[max_concurrency: 0], "expected :max_concurrency to be a positive integer, got: 0"},
            {[native_fallback: :no], "expected :native_fallback to be :eval or :raise, got: :no"},
            {[passes: [:dead_code, :fusion]],
             "expected :passes to be :all, :exact, :none or a list of #{passes()}, got: [:dead_code, :fusion]"},
            {[stream: :cpu], "expected :stream to be an Emily.Stream, got: :cpu"},
            {[hooks: %{a: &Nx.add/2}],
             "expected :hooks to be a map of names to functions of one argument, got: %{a: &Nx.add/2}"},
            {[pass: :none], "expected an option of Emily.Compiler, such as :passes, got: :pass"},
            {[device_id: 0],
             "expected an option of Emily.Compiler, such as :device, got: :device_id"},
            {[native_fallbacks: :raise],
             "expected an option of Emily.Compiler, such as :native_fallback, got: :native_fallbacks"}
          ] do
        for call <- [
              &Nx.Defn.jit_apply(fn x -> Nx.sin(x) end, [1], &1),
              &Nx.Defn.compile(fn x -> Nx.sin(x) end, [1], &1),
              &Nx.Defn.to_backend/1,
              &Compiler.__partitions_options__(Keyword.delete(&1, :compiler)),
              &Compiler.explain(fn x -> Nx.sin(x) end, [1], Keyword.delete(&1, :compiler))
            ] do
          error = assert_raise ArgumentError, fn -> call.([compiler: Compiler] ++ options) end
          assert error.message == text
        end
      end

      # As in all keyword lists, the first of two counts, and others' options are theirs.
      twice = [device: :cpu, device: :gpu, seed: 1, debug: true, global_layer_options: []]
      assert Nx.Defn.to_backend([compiler: Compiler] ++ twice) == {Backend, device: :cpu}
      [partition] = Compiler.__partitions_options__(twice)
      assert partition == [device: :cpu]
    end

    defp passes, do: Enum.map_join(Emily.Native.program_passes(), ", ", &inspect/1)
  end
end
