# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  Code.require_file("../emily/compiler/agreement.exs", __DIR__)

  defmodule Emily.Soak.CompiledTest do
    # Looks at the memory of the whole VM.
    use ExUnit.Case, async: false

    alias Emily.Compiler.{Agreement, Cache, DrawnFunction}
    alias Emily.Test.Baseline

    @moduletag :native
    @moduletag timeout: :infinity

    # Of what the cache of compiled functions holds, nothing is left after a number of rounds.
    @emptied 50

    for {tag, rounds} <- [nx: 100, soak: 100_000] do
      @tag tag
      test "compiled functions that were drawn, #{rounds} of them" do
        Baseline.returns(unquote(rounds), fn round ->
          Nx.default_backend(Emily.Backend)
          Agreement.check(DrawnFunction.new(100_000 + round, :any))
          if rem(round, @emptied) == 0, do: Cache.clear()
        end)
      end
    end
  end
end
