# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  Code.require_file("agreement.exs", __DIR__)

  defmodule Emily.Compiler.EquivalenceTest do
    @moduledoc """
    Compiled functions mean what they mean elsewhere.

    A failure says the seed, and the function that was drawn from it.
    """

    use ExUnit.Case, async: true

    alias Emily.Compiler.{Agreement, DrawnFunction}
    alias Nx.Defn.{Composite, Evaluator}

    @moduletag :nx
    @moduletag :native
    @moduletag timeout: 600_000

    @functions 120

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    for part <- 1..3 do
      test "drawn functions give what the evaluator gives, part #{part}" do
        agree(fn seed -> DrawnFunction.new(1000 * unquote(part) + seed, :any) end)
      end
    end

    test "gradients of drawn functions are what the evaluator gives" do
      agree(fn seed ->
        drawn = DrawnFunction.smooth(seed, {:f, 32})
        %{drawn | fun: &Nx.Defn.value_and_grad(&1, drawn.fun)}
      end)
    end

    # Were the evaluator to refuse most of them, they would say little.
    defp agree(draw) do
      outcomes = for seed <- 1..@functions, do: seed |> draw.() |> Agreement.check()
      assert Enum.count(outcomes, &(&1 == :same)) > div(@functions * 9, 10)
    end

    # Numbers that floats hold exactly, so that there is nothing to tolerate.
    test "drawn functions give what Nx.BinaryBackend gives" do
      told =
        for seed <- 1..@functions do
          drawn = DrawnFunction.new(seed, :exact, parts: ~w(cond while range vectorized_cond)a)

          with {:ok, expected} <- binary(drawn) do
            {:ok, actual} = compiled(drawn)
            assert actual == expected, "seed #{seed}\n#{DrawnFunction.text()}"
          end
        end

      assert Enum.count(told, &(&1 == true)) > div(@functions, 2)
    end

    defp binary(drawn) do
      Nx.default_backend(Nx.BinaryBackend)
      {:ok, numbers(Nx.Defn.jit_apply(drawn.fun, [drawn.arguments], compiler: Evaluator))}
    rescue
      _error -> :refused
    after
      Nx.default_backend(Emily.Backend)
    end

    defp compiled(drawn), do: {:ok, numbers(run(drawn.fun, drawn.arguments))}

    # Zeros have no sign here.
    defp numbers(container) do
      for t <- Composite.flatten_list([container]),
          do: {t.type, t.shape, for(number <- Nx.to_flat_list(t), do: zero(number))}
    end

    defp zero(number) when number == 0, do: 0
    defp zero(number), do: number

    @step 1.0e-4

    # Where two differences differ from each other, the function has an edge or is too steep to tell, and
    # of some conditions in each other Nx makes another gradient whatever computes it.
    test "gradients agree with finite differences" do
      told =
        for seed <- 1..20,
            drawn = DrawnFunction.smooth(seed, {:f, 64}),
            arguments = Nx.backend_copy(drawn.arguments, Emily.Backend),
            {{slope, nx}, place} <- Enum.with_index(gradients(drawn.fun, arguments)) do
          [one, other] =
            for step <- [@step, @step / 2], do: slope(drawn.fun, arguments, place, step)

          if near?(one, other, 1.0e-4) and near?(nx, other, 1.0e-3),
            do: assert(near?(slope, other, 1.0e-3), "seed #{seed}\n#{DrawnFunction.text()}")
        end

      assert Enum.count(told, & &1) > div(length(told) * 3, 4)
    end

    # Of each element of the first tensor, compiled and by Nx.BinaryBackend.
    defp gradients(fun, arguments) do
      gradient = &Nx.Defn.grad(&1, fun)
      Nx.default_backend(Nx.BinaryBackend)
      binary = Nx.backend_copy(arguments, Nx.BinaryBackend)
      nx = Nx.Defn.jit_apply(gradient, [binary], compiler: Evaluator)
      Nx.default_backend(Emily.Backend)
      Enum.zip(first(run(gradient, arguments)), first(nx))
    end

    defp first(container),
      do: [container] |> Composite.flatten_list() |> hd() |> Nx.to_flat_list()

    defp slope(fun, arguments, place, step) do
      [above, below] =
        for step <- [step, -step], do: fun |> run(moved(arguments, place, step)) |> Nx.to_number()

      (above - below) / (2 * step)
    end

    defp run(fun, arguments),
      do: Nx.Defn.jit_apply(fun, [arguments], compiler: Emily.Compiler, native_fallback: :raise)

    defp near?(one, other, tolerance), do: abs(one - other) <= tolerance * (1 + abs(other))

    # With one element of the first tensor a step away.
    defp moved(arguments, place, step) do
      {arguments, _} =
        Composite.traverse(arguments, true, fn
          t, true ->
            steps = Nx.iota(t.shape) |> Nx.equal(place) |> Nx.multiply(Nx.f64(step))
            {Nx.add(t, steps), false}

          t, false ->
            {t, false}
        end)

      arguments
    end
  end
end
