# Functions of Nx need Nx.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.ProgramTest do
    use ExUnit.Case, async: true

    import Nx.Defn

    alias Emily.{Backend, Program}
    alias Emily.Test.Containers.Pair
    alias Nx.Defn.{Composite, Evaluator}

    @moduletag :nx
    @moduletag :native
    @moduletag :tmp_dir

    doctest Program

    setup %{tmp_dir: folder} do
      Nx.default_backend(Backend)
      {:ok, path: Path.join(folder, "program")}
    end

    defp bits(container) do
      for leaf <- Composite.flatten_list([container]),
          do: {Nx.to_template(leaf), Nx.to_binary(leaf)}
    end

    defp assert_same(fun, arguments, path) do
      :ok = Emily.export(fun, Enum.map(arguments, &templates/1), path)
      result = apply(Emily.import(path), arguments)
      expected = Nx.Defn.jit_apply(fun, arguments, compiler: Evaluator)
      assert bits(result) == bits(expected)
      result
    end

    defp templates(container), do: Composite.traverse(container, &Nx.to_template/1)

    defn loop(x, limit) do
      {_i, _limit, x} =
        while {i = 0, limit, x}, i < limit do
          {i + 1, limit, if(Nx.sum(x) > 4, do: x - 1, else: x * 2)}
        end

      %{"x" => x, sum: {Nx.sum(x), Nx.exp(x)}, at: %{3 => x + 1}}
    end

    defn(gradient(x), do: grad(x, &Nx.sum(Nx.sin(&1) * &1)))

    test "an imported function gives what the exported one gives", %{path: path} do
      result = assert_same(&loop/2, [Nx.tensor([0.5, 1.0]), Nx.tensor(5)], path)
      assert %{"x" => _, sum: {_, _}, at: %{3 => _}} = result
      assert %{data: %Backend{}} = result["x"]
      assert_same(&gradient/1, [Nx.tensor([0.5, 1.0])], path)
      assert_same(fn -> Nx.iota({3}) end, [], path)
      assert_same(fn x, _unused -> x end, [Nx.tensor(1), Nx.tensor([2])], path)
      assert_same(fn {x, %{y: y}} -> {y, x, x} end, [{Nx.tensor(1), %{y: Nx.tensor(2)}}], path)
    end

    test "names and vectorized axes stay", %{path: path} do
      rows = Nx.tensor([[1, 2, 3], [4, 5, 6]]) |> Nx.vectorize(:rows)
      assert %{vectorized_axes: [rows: 2]} = assert_same(&Nx.sum/1, [rows], path)
      named = Nx.tensor([[1, 2]], names: [:a, nil])
      assert %{names: [nil, :a]} = assert_same(&Nx.transpose/1, [named], path)
    end

    test "tensors are weights, of every type, and templates are not", %{path: path} do
      types = [
        u: 2,
        u: 4,
        u: 8,
        u: 64,
        s: 2,
        s: 4,
        s: 16,
        s: 64,
        f: 8,
        f8_e4m3fn: 8,
        f: 16,
        bf: 16,
        f: 32,
        c: 64
      ]

      weights =
        for {{kind, size} = type, at} <- Enum.with_index(types),
            into: %{},
            do: {"#{kind}#{size}", Nx.tensor([at, 1, 0], type: type)}

      held = Nx.tensor([0.25, 0.5], backend: Nx.BinaryBackend)
      fun = fn weights, x, options -> {weights, Nx.multiply(x, held), options[:by]} end

      :ok =
        Emily.export(fun, [weights, Nx.template({2}, :f32), [by: 3]], path, names: [:w, "x", :o])

      x = Nx.tensor([2.0, 4.0])
      {same, product, three} = Emily.import(path).(x)
      assert bits(same) == bits(weights)
      assert Nx.to_flat_list(product) == [0.5, 2.0]
      assert Nx.to_number(three) == 3

      graph = path |> Path.join("program.json") |> File.read!() |> JSON.decode!()

      assert [%{"name" => "x", "type" => "f32", "shape" => [2]}] =
               graph["interface"]["parameters"]

      assert %{"weight" => "w.u2"} in graph["interface"]["inputs"]
      assert "0.u2" in graph["interface"]["results"]
    end

    test "arguments that do not fit are refused", %{path: path} do
      :ok = Emily.export(&Nx.add/2, [Nx.template({2}, :f32), Nx.template({}, :s32)], path)
      add = Emily.import(path)
      assert is_function(add, 2)
      assert Nx.to_flat_list(add.(Nx.tensor([1.0, 2.0]), 1)) == [2.0, 3.0]

      for {argument, text} <- [
            {Nx.tensor([1], names: [:a]), "s32[a: 1]"},
            {1.0, "f32"},
            {%{x: {1, nil}}, "%{:x => {s32, nil}}"},
            {Nx.vectorize(Nx.tensor([1, 2]), :rows), "s32[rows: 2]"}
          ] do
        error = assert_raise ArgumentError, fn -> add.(Nx.tensor([1.0, 2.0]), argument) end
        assert error.message == "expected argument 1 of the program to be s32, got: #{text}"
      end
    end

    test "a program can be replaced, and nothing else", %{path: path, tmp_dir: folder} do
      for number <- [1, 2] do
        :ok = Emily.export(fn -> Nx.tensor([number]) end, [], path)
        assert Nx.to_flat_list(Emily.import(path).()) == [number]
      end

      assert File.ls!(folder) == ["program"]
      File.write!(Path.join(path, "mine"), "")

      error = assert_raise ArgumentError, fn -> Emily.export(fn -> 1 end, [], path) end

      assert error.message ==
               "expected a new folder, or one that holds nothing but a program, got: #{path}"

      assert File.exists?(Path.join(path, "mine"))
    end

    defn(hooked(x), do: io_call(x, :name, &IO.inspect/1))

    test "what no file can hold is refused by name", %{path: path} do
      x = Nx.template({2}, :f32)
      call = fn x -> Nx.runtime_call(x, x, [], &__MODULE__.outside/2) end

      for {fun, arguments, text} <- [
            {&hooked/1, [x], "got: one with a hook that calls &IO.inspect/1"},
            {call, [x], "got: one with Nx.runtime_call of &Emily.ProgramTest.outside/2"},
            {fn x -> %Pair{left: x, right: x} end, [x],
             "got: a struct, Emily.Test.Containers.Pair"},
            {fn x -> x.left end, [%Pair{left: x, right: x}],
             "got: a struct, Emily.Test.Containers.Pair"},
            {fn x -> %{{1} => x} end, [x], "expected the keys of maps to be atoms, strings and"},
            {fn {x, _} -> x end, [{x, Nx.tensor(1)}],
             "expected arg0 to hold templates, for what the caller gives, or tensors, for weights"},
            {& &1, x, "expected the arguments to be a list, got: "}
          ] do
        error = assert_raise ArgumentError, fn -> Emily.export(fun, arguments, path) end
        assert error.message =~ text
      end

      weights = %Pair{left: Nx.tensor(1), right: Nx.tensor(2)}
      :ok = Emily.export(fn point, x -> Nx.add(point.right, x) end, [weights, x], path)
      assert Nx.to_flat_list(Emily.import(path).(Nx.tensor([1.0, 2.0]))) == [3.0, 4.0]
    end

    def outside(x, _options), do: x

    test "options are checked by name", %{path: path} do
      for {call, text} <- [
            {fn -> Emily.export(& &1, [1], path, name: 1) end,
             "expected the options to be :names, got: :name"},
            {fn -> Emily.export(& &1, [1], path, names: []) end,
             "expected :names to be 1 names, got: []"},
            {fn -> Emily.import(path, keys: :strings) end,
             "expected :keys to be :existing or :atoms, got: :strings"},
            {fn -> Emily.import(path, max_steps: 0) end,
             "expected :max_steps to be a positive integer, got: 0"},
            {fn -> Emily.import(path, device: :tpu) end,
             "expected :device to be :cpu or :gpu, got: :tpu"}
          ] do
        assert assert_raise(ArgumentError, call).message == text
      end
    end

    test "a stream of the caller's computes", %{path: path} do
      stream = Emily.Stream.new(:cpu)
      :ok = Emily.export(&Nx.sin/1, [Nx.template({}, :f32)], path)
      sin = Emily.import(path, stream: stream)
      assert %{data: %Backend{device: :cpu}} = sin.(0.0)
      assert Nx.to_number(sin.(0.0)) == 0.0
    end

    test "a loop that goes on ends after so many steps", %{path: path} do
      :ok = Emily.export(&loop/2, [Nx.template({2}, :f32), Nx.template({}, :s32)], path)
      loop = Emily.import(path, max_steps: 1000)
      assert %{"x" => _} = loop.(Nx.tensor([1.0, 2.0]), 3)
      error = assert_raise ArgumentError, fn -> loop.(Nx.tensor([1.0, 2.0]), 1_000_000_000) end

      assert error.message ==
               "expected the program to end within 1000 steps, got: one that goes on"
    end

    test "files make no atoms unless they may", %{path: path} do
      :ok =
        Emily.export(
          fn x -> %{key: x, another: Nx.add(x, 1)} end,
          [Nx.template({2}, :s32, names: [:axis])],
          path
        )

      graph = Path.join(path, "program.json")
      unknown = "unknown_#{System.unique_integer([:positive])}"
      File.write!(graph, graph |> File.read!() |> String.replace(~s("another"), ~s("#{unknown}")))

      x = Nx.tensor([1, 2])
      result = Emily.import(path).(x)
      assert Nx.to_flat_list(result.key) == [1, 2]
      assert Nx.to_flat_list(result[unknown]) == [2, 3]
      assert_raise ArgumentError, fn -> String.to_existing_atom(unknown) end

      result = Emily.import(path, keys: :atoms).(x)
      assert Nx.to_flat_list(result.key) == [1, 2]
      assert Nx.to_flat_list(result[String.to_existing_atom(unknown)]) == [2, 3]
    end

    test "files that are none are refused, and say where", %{path: path} do
      :ok =
        Emily.export(
          fn x -> Nx.multiply(x, Nx.tensor([2, 3])) end,
          [Nx.template({2}, :s32)],
          path
        )

      graph = Path.join(path, "program.json")
      weights = Path.join(path, "weights.safetensors")
      whole = File.read!(graph)
      held = File.read!(weights)

      refused = fn ->
        assert_raise(ArgumentError, fn -> Emily.import(path) end).message
        |> String.replace(path, "path")
      end

      for {from, to, text} <- [
            {~s("version":1), ~s("version":2),
             "path/program.json: expected :version to be 1, which this Emily reads, got: 2"},
            {"emily program", "other",
             ~s(path/program.json: expected :format to be "emily program", got: "other")},
            {~s("multiply"), ~s("dot"), "path/program.json: invalid type: unit variant"},
            {~s("outputs":[2]), ~s("outputs":[9]),
             "path/program.json: expected the outputs to be values below 3, got: 9"}
          ] do
        assert whole =~ from
        File.write!(graph, String.replace(whole, from, to))
        assert refused.() =~ text
      end

      File.write!(graph, whole)
      File.write!(weights, binary_part(held, 0, byte_size(held) - 1))
      assert refused.() == "path/weights.safetensors: expected 8 bytes of tensors, got: 7"
      File.rm!(weights)
      assert refused.() == "path/weights.safetensors: No such file or directory (os error 2)"
      File.rm_rf!(path)
      assert refused.() == "path/program.json: No such file or directory (os error 2)"
    end
  end
end
