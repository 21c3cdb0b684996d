# Without Nx there are no doctests to run.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Nx.Doctests do
    @moduledoc """
    The examples in Nx's documentation that are not compared letter by letter, each by a line
    of its code, with how it is compared instead:

      * `:digits` - as numbers, for the last digits that are printed differ; `{:digits, tolerance}`
        where Nx's own value is further than that from the true one
      * `:refused` - as an error, for MLX lacks the type

    `:text` is for functions whose examples compare tensors with `==`: where Nx's own backend has equal
    binaries, other backends have a reference each, so they are compared as they are printed.
    """

    alias Emily.Test.Examples

    @listed %{
      {Nx, :cos, 1} => [
        digits: "Nx.cos(Nx.tensor(1, type: :f64))",
        digits: "Nx.cos(Nx.tensor([1, 2, 3], names: [:x], type: :f64))"
      ],
      {Nx, :sin, 1} => [digits: "Nx.sin(Nx.tensor([1, 2, 3], names: [:x], type: :f64))"],
      {Nx, :exp, 1} => [
        digits: "Nx.exp(Nx.tensor(1, type: :f64))",
        digits: "Nx.exp(Nx.tensor([1, 2, 3], names: [:x], type: :f64))"
      ],
      {Nx, :log1p, 1} => [digits: "Nx.log1p(Nx.tensor([1, 2, 3], names: [:x], type: :f64))"],
      {Nx, :erfc, 1} => [
        digits: "Nx.erfc(Nx.tensor(1, type: :f64))",
        digits: "Nx.erfc(Nx.tensor([1, 2, 3], names: [:x], type: :f64))"
      ],
      {Nx, :erf_inv, 1} => [
        {{:digits, 1.0e-7}, "Nx.erf_inv(Nx.tensor(0.1, type: :f64))"},
        {{:digits, 1.0e-7}, "Nx.erf_inv(Nx.tensor([0.1, 0.5, 0.9], names: [:x], type: :f64))"}
      ],
      {Nx.Constants, :i, 2} => [refused: "Nx.Constants.i(:c128)"],
      {Nx.Defn.Composite, :flatten_list, 2} => [
        text: "Nx.Defn.Composite.flatten_list([1, {2, 3}])",
        text: "Nx.Defn.Composite.flatten_list([1, {2, 3}], [Nx.tensor(4)])"
      ],
      {Nx.Random, :normal, 4} => [
        digits: "{normal, _new_key} = Nx.Random.normal(key)",
        digits: "{normal, _new_key} = Nx.Random.normal(key, 0, 1, shape: {2, 2}, type: :c64)",
        digits: "{normal, _new_key} = Nx.Random.normal(key, 10, 5, shape: {1_000})"
      ],
      {Nx.Random, :multivariate_normal, 4} => [
        digits:
          "{multivariate_normal, _new_key} = Nx.Random.multivariate_normal(key, Nx.tensor([0, 0]), Nx.tensor([[1, 0], [0, 1]]))",
        digits:
          "{multivariate_normal, _new_key} = Nx.Random.multivariate_normal(key, Nx.tensor([0, 0]), Nx.tensor([[1, 0], [0, 1]]), shape: {3, 2})"
      ],
      {Nx.LinAlg, :cholesky, 1} => [digits: "t = Nx.tensor(["],
      {Nx.LinAlg, :eigh, 2} => [
        digits:
          "{eigenvals, eigenvecs} = Nx.LinAlg.eigh(Nx.tensor([[0, 1, 2], [1, 0, 2], [2, 2, 3]]))",
        digits:
          "{eigenvals, eigenvecs} = Nx.LinAlg.eigh(Nx.tensor([[[2, 5],[5, 6]], [[1, 0], [0, 4]]]))",
        digits: "t = Nx.tensor([[[2, 5],[5, 6]], [[1, 0], [0, 4]]]) |> Nx.vectorize(x: 2)"
      ],
      {Nx.LinAlg, :svd, 2} => [
        digits:
          "{u, s, vt} = Nx.LinAlg.svd(Nx.tensor([[2, 0, 0], [0, 3, 0], [0, 0, -1], [0, 0, 0]]))"
      ],
      {Nx.LinAlg, :pinv, 2} => [digits: "Nx.LinAlg.pinv(Nx.tensor([[1, 1], [3, 4]]))"],
      {Nx.LinAlg, :lu, 1} => [
        digits:
          "{p, l, u} = Nx.LinAlg.lu(Nx.tensor([[[9, 8, 7], [6, 5, 4], [3, 2, 1]], [[-1, 0, -1], [1, 0, 1], [1, 1, 1]]]))"
      ],
      {Nx.LinAlg, :matrix_power, 2} => [
        digits: "Nx.LinAlg.matrix_power(Nx.iota({2, 2, 2}), -3)"
      ],
      {Nx.LinAlg, :least_squares, 3} => [
        digits: "Nx.LinAlg.least_squares(Nx.tensor([[1, 2], [2, 3]]), Nx.tensor([1, 2]))",
        digits:
          "Nx.LinAlg.least_squares(Nx.tensor([[0, 1], [1, 1], [2, 1], [3, 1]]), Nx.tensor([-1, 0.2, 0.9, 2.1]))",
        digits: "Nx.LinAlg.least_squares(Nx.tensor([[1, 2, 3], [4, 5, 6]]), Nx.tensor([1, 2]))"
      ]
    }

    @doc """
    The modules whose examples are run; of `Nx.Defn.Kernel` they need its operators imported. Those of
    `Nx.Defn.Graph` compute nothing, and print expressions in the order of references.
    """
    def modules do
      [Nx, Nx.LinAlg, Nx.Random, Nx.Constants, Nx.Type, Nx.Shape, Nx.Floating, Nx.Batch] ++
        [Nx.Defn, Nx.Defn.Composite]
    end

    @doc "The functions of a module with examples that are listed."
    def functions(module), do: for({{^module, name, arity}, _} <- @listed, do: {name, arity})

    @doc "All examples of the functions with listed ones: how each is compared, and its steps."
    def examples do
      for {{module, name, arity} = function, listed} <- Enum.sort(@listed),
          {steps, index} <- Enum.with_index(Examples.of(module, name, arity), 1) do
        lines = lines(steps)
        how = Enum.find_value(listed, :exact, fn {how, line} -> line in lines && how end)

        {"#{inspect(module)}.#{name}/#{arity}, example #{index}: #{hd(lines)}", function, how,
         steps}
      end
    end

    @doc "What is listed and is a line of no example."
    def unknown do
      for {{module, name, arity} = function, listed} <- @listed,
          lines = Enum.flat_map(Examples.of(module, name, arity), &lines/1),
          {_how, line} <- listed,
          line not in lines,
          do: {function, line}
    end

    defp lines(steps), do: Enum.flat_map(steps, fn {code, _} -> String.split(code, "\n") end)
  end

  defmodule Emily.Nx.DoctestsTest do
    @moduledoc """
    All examples in Nx's documentation, computed by Emily: Nx's own doctests, and those that
    `Emily.Nx.Doctests` lists.
    """

    use ExUnit.Case, async: true

    alias Emily.Nx.Doctests
    alias Emily.Test.Examples

    @moduletag :nx
    @moduletag :native

    # More than these, and it would no longer be rounding.
    @most 60

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    for module <- Doctests.modules() do
      doctest module, except: Doctests.functions(module)
    end

    for {name, _function, how, steps} <- Doctests.examples() do
      test name do
        for {documented, actual} <- Examples.run(unquote(steps)) do
          compare(unquote(how), documented, actual)
        end
      end
    end

    test "few examples are compared as numbers, and all that are listed exist" do
      numbers = for {_, _, how, _} <- Doctests.examples(), how not in [:exact, :text], do: how
      assert length(numbers) <= @most
      assert Doctests.unknown() == []
    end

    defp compare(:digits, documented, actual), do: compare({:digits, nil}, documented, actual)

    defp compare({:digits, tolerance}, documented, actual) do
      assert Examples.close?(documented, actual, tolerance),
             "expected numbers close to #{documented}, got: #{actual}"
    end

    defp compare(:refused, _documented, actual),
      do: assert(actual =~ ~r/\*\* \(ArgumentError\) .*use {:c, 64}/)

    defp compare(_exact, documented, actual), do: assert(actual == documented)
  end

  defmodule Emily.Nx.KernelDoctestsTest do
    use ExUnit.Case, async: true

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    describe "Nx.Defn.Kernel" do
      use Nx.Defn.Kernel
      doctest Nx.Defn.Kernel
    end
  end
end
