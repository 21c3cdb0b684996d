if Code.ensure_loaded?(Nx) do
  defmodule Emily.Soak.TrainingTest do
    use ExUnit.Case, async: false

    import Nx.Defn

    alias Emily.Test.Baseline

    @moduletag :native
    @moduletag timeout: :infinity

    defn predict({w1, b1, w2, b2}, x) do
      x |> Nx.dot(w1) |> Nx.add(b1) |> Nx.tanh() |> Nx.dot(w2) |> Nx.add(b2)
    end

    defn(loss(parameters, x, y), do: Nx.mean((predict(parameters, x) - y) ** 2))

    defn step({w1, b1, w2, b2} = parameters, x, y) do
      {loss, {dw1, db1, dw2, db2}} = value_and_grad(parameters, &loss(&1, x, y))
      rate = 0.1
      {loss, {w1 - rate * dw1, b1 - rate * db1, w2 - rate * dw2, b2 - rate * db2}}
    end

    for {tag, rounds} <- [nx: 60, soak: 10_000],
        compiler <- [Nx.Defn.Evaluator, Emily.Compiler] do
      @tag tag
      test "steps of training with #{inspect(compiler)}, #{rounds} times" do
        step = Nx.Defn.jit(&step/3, compiler: unquote(compiler))
        x = Nx.iota({32, 4}, backend: Emily.Backend) |> Nx.divide(128)
        y = x |> Nx.sum(axes: [1], keep_axes: true) |> Nx.sin()

        first = Nx.to_number(loss(parameters(), x, y))

        Baseline.returns(unquote(rounds), fn _round ->
          {loss, stepped} = step.(Process.get(:parameters, parameters()), x, y)
          Process.put(:parameters, stepped)
          assert Nx.to_number(loss) <= first
        end)
      end
    end

    defp parameters do
      for {shape, seed} <- [{{4, 16}, 1}, {{16}, 2}, {{16, 1}, 3}, {{1}, 4}] do
        Nx.iota(shape, backend: Emily.Backend) |> Nx.add(seed) |> Nx.sin() |> Nx.divide(2)
      end
      |> List.to_tuple()
    end
  end
end
